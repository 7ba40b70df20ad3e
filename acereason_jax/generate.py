"""Samples `n` rollouts of each prompt in a file, one JSON line each.

    python -m acereason_jax.generate --model=smollm2-135m \\
      --prompts=prompts.jsonl --n=16 --out=rollouts.jsonl

A line is written when its rollout ends. The same command again resumes where
the file stops: a rollout depends only on the seed, its prompt's id and its
index, so the lines are the same as those of a run that nothing stopped. Exit
status 75 means stopped by a signal; 1, something for the user to fix, in one
line (--verbosity=1 shows the traceback too).
"""

import contextlib
from collections.abc import Callable, Sequence

from absl import logging

from acereason_jax.console import (
  command_line,
  exits,
  jax_setup,
  signals,
  terminal,
)
from acereason_jax.rollout import job as job_lib
from acereason_jax.rollout import judging, output
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import weights

DTYPES = ('bfloat16', 'float32')
KV_DTYPES = (*DTYPES, 'float8_e4m3fn')

FLAGS = command_line.Flags(logging.WARNING)
FLAGS.string(
  'model',
  None,
  "A Hugging Face directory, a model of the hub ('owner/name'), the name of an "
  'embedded model, the folder of a run (its newest checkpoint) or '
  'RUN/checkpoints/STEP.',
  required=True,
)
FLAGS.string(
  'prompts',
  None,
  "JSON lines with a 'problem', or in another form of docs/data.md; "
  "an 'id' may be given, an 'answer' is not needed.",
  required=True,
)
FLAGS.string(
  'out',
  None,
  'The file of rollouts to write, JSON lines.',
  required=True,
)
FLAGS.integer(
  'n', 1, 'Rollouts per prompt; the same command with more adds to the file.'
)
FLAGS.boolean(
  'tokens', False, 'Also write token ids and their log-probabilities.'
)
FLAGS.integer('seed', 0, 'Another seed gives other rollouts.')
FLAGS.string('system', '', "The system turn; '' for none.")
FLAGS.string('suffix', '', 'Text after each question.')
FLAGS.string(
  'starter',
  '',
  'Text in place of the suffix for rows that have a starter; it replaces '
  '{starter}.',
)
FLAGS.string(
  'opens', '', 'Text before the reply, if the chat template leaves it out.'
)
FLAGS.integer('max_tokens', 1024, 'Most tokens of a response.')
FLAGS.integer(
  'window',
  0,
  'Most tokens of a prompt; 0: those of the longest that fits the context. A '
  "longer prompt gets lines with stop 'error'.",
)
FLAGS.number('temperature', 0.6, '0 takes the likeliest token.')
FLAGS.number('top_p', 0.95, 'Mass of the likeliest tokens to keep.')
FLAGS.integer('top_k', 0, 'Number of likeliest tokens to keep; 0: all.')
FLAGS.number(
  'min_p', 0.0, "Least probability to keep, as a share of the likeliest's."
)
FLAGS.strings(
  'stop', [], 'A text that ends a response and stays in it; may be repeated.'
)
FLAGS.integer(
  'thinking_budget', 0, 'Tokens before thinking is ended; 0: no limit.'
)
FLAGS.string(
  'thinking_end', '\n</think>\n\n', 'The text that ends the thinking.'
)
FLAGS.integer(
  'slots', 0, 'Rollouts at a time; 0: all, or what fits: 64 a CPU, 256 a shard.'
)
FLAGS.integer('page', 0, 'Tokens of a cache page; 0: 16 on a CPU, else 128.')
FLAGS.integer(
  'chunk', 0, 'Decode steps of a call; divides page; 0: 8 on a CPU, else 128.'
)
FLAGS.integer(
  'pages', 0, 'Cache pages; 0: all that the slots can use, or that fit.'
)
FLAGS.choice(
  'dtype', None, DTYPES, 'Weights and compute; default: float32 on a CPU.'
)
FLAGS.choice('kv_dtype', None, KV_DTYPES, 'Cache; default: as --dtype.')
FLAGS.integer('data', -1, 'Size of the mesh; -1: what is left.')
FLAGS.integer(
  'fsdp', 1, 'Size of the mesh; as data, because weights are whole along it.'
)
FLAGS.integer('tensor', 1, 'Size of the mesh.')


def read_settings(argv: Sequence[str]) -> job_lib.Settings:
  """Reads each setting from the flag of its name."""
  args = command_line.parse(FLAGS, argv, __doc__)
  return job_lib.Settings(
    **{name: getattr(args, name) for name in job_lib.Settings._fields}
  )


def generate(
  job: job_lib.Job, out: output.Output, stopped: Callable[[], bool]
) -> int:
  """Adds the rollouts that `out` lacks; returns the exit status."""
  path = terminal.printable(out.where)
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
        with exits.one_line_for(OSError, where=f'{path}: '):
          out.write(output.to_record(rollout, job.settings.tokens))
        advance()
        if stopped():
          raise KeyboardInterrupt
  finally:
    with exits.one_line_for(OSError):
      output.write_timeline(f'{out.path}{output.TIMELINE}', trace)
      out.upload()
  terminal.say(f'{job.rollouts} rollouts in {path}: {output.summary(trace)}')
  return 0


def run(settings: job_lib.Settings) -> int:
  """Reads model and prompts and generates; returns the exit status."""
  with signals.StopRequest() as stop, contextlib.ExitStack() as stack:
    try:
      with stop.interruptible():
        with exits.one_line_for(ValueError, OSError):
          job_lib.check(settings)
          job = job_lib.read(settings, weights.find(settings.model))
          out = stack.enter_context(output.Output(settings.out, job.header))
        jax_setup.use_precision(job.dtype)
        return generate(job, out, stop.agreed)
    except KeyboardInterrupt:
      # Nobody reads a terminal that was closed.
      with contextlib.suppress(KeyboardInterrupt):
        terminal.say(
          f'stopped; what has ended is in {terminal.printable(settings.out)}; '
          'the same command goes on'
        )
      return exits.STOPPED


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  settings = read_settings(argv)
  jax_setup.keep_compiled()
  return run(settings)


if __name__ == '__main__':
  command_line.run(main)
