"""Rollouts of a file of prompts: `n` of each prompt, a JSON line each.

    python -m acereason_jax.generate --model=smollm2-135m \\
      --prompts=prompts.jsonl --n=16 --out=rollouts.jsonl

A line is written when its rollout ends. The same command again goes on where
the file stops: a rollout depends only on the seed, its prompt's id and its
index, so the lines are the same as those of a run that nothing stopped. Exit
status 75 means stopped by a signal; 1, something for the user to fix, in one
line (--verbosity=1 shows the traceback too).
"""

import contextlib
from collections.abc import Callable

from absl import app, flags

from acereason_jax.console import exits, jax_setup, signals, terminal
from acereason_jax.rollout import job as job_lib
from acereason_jax.rollout import judging, output
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import weights

DTYPES = ('bfloat16', 'float32')
KV_DTYPES = (*DTYPES, 'float8_e4m3fn')

flags.DEFINE_string(
  'model',
  None,
  'A Hugging Face directory, the name of an embedded model, the folder of a '
  'run (its newest checkpoint) or RUN/checkpoints/STEP.',
)
flags.DEFINE_string(
  'prompts',
  None,
  "JSON lines with a 'problem', or in another form of docs/data.md; "
  "an 'id' may be given, an 'answer' is not needed.",
)
flags.DEFINE_string('out', None, 'The file of rollouts to write, JSON lines.')
flags.DEFINE_integer(
  'n', 1, 'Rollouts per prompt; the same command with more adds to the file.'
)
flags.DEFINE_bool(
  'tokens', False, 'Also write token ids and their log-probabilities.'
)
flags.DEFINE_integer('seed', 0, 'Another seed gives other rollouts.')
flags.DEFINE_string('system', '', "The system turn; '' for none.")
flags.DEFINE_string('suffix', '', 'Text after each question.')
flags.DEFINE_string(
  'starter',
  '',
  'Text in place of the suffix for rows that have a starter; it replaces '
  '{starter}.',
)
flags.DEFINE_string(
  'opens', '', 'Text before the reply, if the chat template leaves it out.'
)
flags.DEFINE_integer('max_tokens', 1024, 'Most tokens of a response.')
flags.DEFINE_integer(
  'window',
  0,
  'Most tokens of a prompt; 0: those of the longest that fits the context. A '
  "longer prompt gets lines with stop 'error'.",
)
flags.DEFINE_float('temperature', 0.6, '0 takes the likeliest token.')
flags.DEFINE_float('top_p', 0.95, 'Mass of the likeliest tokens to keep.')
flags.DEFINE_integer('top_k', 0, 'Number of likeliest tokens to keep; 0: all.')
flags.DEFINE_float(
  'min_p', 0.0, "Least probability to keep, as a share of the likeliest's."
)
flags.DEFINE_multi_string(
  'stop', [], 'A text that ends a response and stays in it; may be repeated.'
)
flags.DEFINE_integer(
  'thinking_budget', 0, 'Tokens before thinking is ended; 0: no limit.'
)
flags.DEFINE_string(
  'thinking_end', '\n</think>\n\n', 'The text that ends the thinking.'
)
flags.DEFINE_integer(
  'slots', 0, 'Rollouts at a time; 0: 16 a CPU, 64 an accelerator, or fewer.'
)
flags.DEFINE_integer(
  'page', 0, 'Tokens of a cache page; 0: 16 on a CPU, else 128.'
)
flags.DEFINE_integer(
  'chunk', 0, 'Decode steps of a call; divides page; 0: 8 on a CPU, else 128.'
)
flags.DEFINE_integer(
  'pages', 0, 'Cache pages; 0: all that the slots can use, or that fit.'
)
flags.DEFINE_enum(
  'dtype', None, DTYPES, 'Weights and compute; default: float32 on a CPU.'
)
flags.DEFINE_enum('kv_dtype', None, KV_DTYPES, 'Cache; default: as --dtype.')
flags.DEFINE_integer('data', -1, 'Size of the mesh; -1: what is left.')
flags.DEFINE_integer(
  'fsdp', 1, 'Size of the mesh; as data, because weights are whole along it.'
)
flags.DEFINE_integer('tensor', 1, 'Size of the mesh.')


def read_flags() -> job_lib.Settings:
  """Each setting is the flag of its name."""
  return job_lib.Settings(
    **{name: flags.FLAGS[name].value for name in job_lib.Settings._fields}
  )


def generate(
  job: job_lib.Job, out: output.Output, stopped: Callable[[], bool]
) -> int:
  """Adds the rollouts that `out` lacks; returns the exit status."""
  path = terminal.printable(str(out.path))
  if not (asked := job_lib.missing(job, out.done)):
    terminal.say(f'finished already: {job.rollouts} rollouts in {path}')
    return 0
  there = job.rollouts - len(asked)
  if there:
    terminal.say(f'going on after {there} of {job.rollouts} rollouts')
  with exits.one_line_for(ValueError, OSError):
    served = job_lib.load(job)
  trace = trace_lib.Trace()
  drawn = served.engine.stream(
    served.params,
    asked,
    seed=job.settings.seed,
    step=0,
    temperature=job.settings.temperature,
    trace=trace,
  )
  try:
    with output.progress(job.rollouts, there, trace) as advance:
      for rollout, _ in judging.judged(drawn):
        with exits.one_line_for(OSError, where=f'{out.path}: '):
          out.write(output.to_record(rollout, job.settings.tokens))
        advance()
        if stopped():
          raise KeyboardInterrupt
  finally:
    with exits.one_line_for(OSError):
      output.write_timeline(f'{out.path}.timeline.jsonl', trace)
  terminal.say(f'{job.rollouts} rollouts in {path}: {output.summary(trace)}')
  return 0


def run(settings: job_lib.Settings) -> int:
  """Reads what the settings name, generates; returns the exit status."""
  with signals.StopRequest() as stop, contextlib.ExitStack() as stack:
    try:
      with stop.interruptible():
        with exits.one_line_for(ValueError, OSError):
          job_lib.check(settings)
          job = job_lib.read(settings, weights.find(settings.model))
          out = stack.enter_context(output.Output(settings.out, job.header))
        jax_setup.use_precision(job.dtype)
        return generate(job, out, stop.asked)
    except KeyboardInterrupt:
      # Who closed the terminal reads it no more.
      with contextlib.suppress(KeyboardInterrupt):
        terminal.say(
          f'stopped; what has ended is in {terminal.printable(settings.out)}; '
          'the same command goes on'
        )
      return exits.STOPPED


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise SystemExit(f'error: unexpected arguments: {argv[1:]}')
  terminal.use_stdout()
  jax_setup.quiet_libraries()
  jax_setup.keep_compiled()
  return run(read_flags())


if __name__ == '__main__':
  flags.mark_flags_as_required(['model', 'prompts', 'out'])
  app.run(main)
