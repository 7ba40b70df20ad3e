"""Rollouts of a file of prompts: `n` a prompt, a JSON line each.

    python -m acereason_jax.generate --model=smollm2-135m \\
      --prompts=prompts.jsonl --n=16 --out=rollouts.jsonl

A line is written when its rollout ends. The same command again goes on where
the file stops: what a rollout draws hangs on the seed, its prompt's id and its
index alone, so that the lines are those of a run that nothing stopped. Exit
status 75 means stopped by a signal; 1, something for the user to mend, in one
line (--verbosity=1 shows the traceback too).
"""

import contextlib
import errno
import fcntl
import functools
import json
import math
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from acereason_jax import mesh as mesh_lib
from acereason_jax import timeline, types
from acereason_jax.console import exits, jax_setup, terminal
from acereason_jax.data import records, sources
from acereason_jax.models import base, decoder, embedded, hf, sharding, tokens
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import sampling, schedule

CLOSE = '</think>'
# Between two lines of progress where no bar can be drawn.
SECONDS_A_LINE = 30.0
_MAX_HEADER_BYTES = 16 << 20
DTYPES = ('bfloat16', 'float32')
KV_DTYPES = (*DTYPES, 'float8_e4m3fn')

MODEL = flags.DEFINE_string(
  'model', None, 'A Hugging Face directory or the name of an embedded model.'
)
PROMPTS = flags.DEFINE_string(
  'prompts',
  None,
  "JSON lines of 'problem' or another form of docs/data.md and, if need be, "
  "'id'; an 'answer' is not needed.",
)
OUT = flags.DEFINE_string('out', None, 'The file of rollouts, JSON lines.')
N = flags.DEFINE_integer('n', 1, 'Rollouts a prompt; more than before goes on.')
TOKENS = flags.DEFINE_bool(
  'tokens', False, "Also write each rollout's token ids and their logps."
)
SEED = flags.DEFINE_integer('seed', 0, 'Another one gives other rollouts.')
SYSTEM = flags.DEFINE_string('system', '', "The system turn; '' is none.")
SUFFIX = flags.DEFINE_string('suffix', '', 'Put after each question.')
STARTER = flags.DEFINE_string(
  'starter',
  '',
  'In place of the suffix for rows of a starter; {starter} is it.',
)
OPENS = flags.DEFINE_string(
  'opens', '', 'What the reply begins after, if the chat template lacks it.'
)
MAX_TOKENS = flags.DEFINE_integer('max_tokens', 1024, 'Longest response.')
WINDOW = flags.DEFINE_integer(
  'window',
  0,
  "Longest prompt, tokens; 0: the file's longest that fits the context. A "
  "longer one gets lines of stop 'error'.",
)
TEMPERATURE = flags.DEFINE_float('temperature', 0.6, '0: the likeliest token.')
TOP_P = flags.DEFINE_float('top_p', 0.95, 'Likeliest tokens of this mass.')
TOP_K = flags.DEFINE_integer('top_k', 0, 'That many likeliest tokens; 0: all.')
MIN_P = flags.DEFINE_float(
  'min_p', 0.0, "No token less likely than this share of the likeliest's."
)
STOP = flags.DEFINE_multi_string(
  'stop', [], 'A text that ends a response, kept in it; may be repeated.'
)
THINKING_BUDGET = flags.DEFINE_integer(
  'thinking_budget', 0, f'Tokens before {CLOSE} is put in; 0: no limit.'
)
THINKING_END = flags.DEFINE_string(
  'thinking_end', f'\n{CLOSE}\n\n', 'What is put in to end the thinking.'
)
SLOTS = flags.DEFINE_integer(
  'slots', 0, 'Rollouts at a time; 0: 16 a CPU, 64 an accelerator, or fewer.'
)
PAGE = flags.DEFINE_integer(
  'page', 0, 'Tokens a cache page; 0: 16 on a CPU, else 128.'
)
CHUNK = flags.DEFINE_integer(
  'chunk', 0, 'Decode steps a call, divides page; 0: 8 on a CPU, else 128.'
)
PAGES = flags.DEFINE_integer(
  'pages', 0, 'Cache pages; 0: all that the slots can use, or that fit.'
)
DTYPE = flags.DEFINE_enum(
  'dtype', None, DTYPES, 'Of weights and compute; default: float32 on a CPU.'
)
KV_DTYPE = flags.DEFINE_enum(
  'kv_dtype', None, KV_DTYPES, 'Of the cache; default: as --dtype.'
)
# Devices: data x fsdp x tensor = all of them; -1 is what is left. Weights are
# whole along fsdp, which is but another name for data here.
DATA = flags.DEFINE_integer('data', -1, 'Of the mesh.')
FSDP = flags.DEFINE_integer('fsdp', 1, 'Of the mesh.')
TENSOR = flags.DEFINE_integer('tensor', 1, 'Of the mesh.')


class Output:
  """Context manager; the rollouts' file and, beside it, what made them.

  `<path>.json` holds `settings`. Rollouts that are there are in `done`: (id,
  index) to tokens; a torn last line is dropped. Only one process may write.

  Raises:
    ValueError: the file is of other settings, or not of this program.
  """

  def __init__(self, path: str, settings: Mapping[str, Any]):
    self.path = pathlib.Path(path)
    self._header = pathlib.Path(f'{path}.json')
    self._settings = dict(settings)
    self.done: dict[tuple[str, int], int] = {}

  def __enter__(self) -> 'Output':
    if self.path.exists() and not self.path.is_file():
      raise ValueError(f'{self.path}: not a file; give another --out')
    self._file = self.path.open('a+b')
    try:
      self._open()
    except BaseException:
      self._file.close()
      raise
    return self

  def __exit__(self, *exc) -> None:
    # A full disk has been told of already: by `write`.
    with contextlib.suppress(OSError):
      self._file.close()

  def _open(self) -> None:
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      raise ValueError(f'{self.path}: another process writes it') from e
    # Before a byte is dropped: the file may be a stranger's.
    if os.fstat(self._file.fileno()).st_size:
      self._check_same()
    self._file.seek(0)
    whole = 0
    for number, line in enumerate(self._file, 1):
      if not line.endswith(b'\n'):
        break  # A process killed while it wrote leaves half a line.
      whole += len(line)
      key, length = _done(f'{self.path}:{number}', line)
      self.done[key] = length
    self._file.truncate(whole)
    temporary = self._header.with_name(self._header.name + '.tmp')
    # A link of that name would have another file written over.
    temporary.unlink(missing_ok=True)
    with temporary.open('x') as file:
      file.write(json.dumps(self._settings, indent=2) + '\n')
    os.replace(temporary, self._header)

  def _check_same(self) -> None:
    if not self._header.exists():
      raise ValueError(
        f'{self.path}: has no {self._header} that tells what made it; give '
        'another --out'
      )
    try:
      with records.opened(self._header, _MAX_HEADER_BYTES) as file:
        old = dict(json.loads(file.read()))
    except (ValueError, TypeError, RecursionError) as e:
      raise ValueError(f'{self._header}: not readable ({e})') from e
    new = self._settings
    changed = [
      f'{name}: {json.dumps(old.get(name))} -> {json.dumps(new.get(name))}'
      for name in sorted(old.keys() | new.keys())
      if old.get(name) != new.get(name)
      and not (name == 'n' and _fewer(old.get(name), new[name]))
    ]
    if changed:
      raise ValueError(
        f'{self.path}: holds rollouts of other settings: '
        f'{"; ".join(changed)}; give another --out, or put them back'
      )

  def write(self, record: Mapping[str, Any]) -> None:
    line = json.dumps(record, allow_nan=False) + '\n'
    if not os.fstat(self._file.fileno()).st_nlink:
      raise OSError(errno.ENOENT, 'it was deleted while it was written')
    self._file.write(line.encode())
    self._file.flush()
    self.done[record['id'], record['index']] = record['length']


def _fewer(old: Any, new: int) -> bool:
  return type(old) is int and old < new


def _done(where: str, line: bytes) -> tuple[tuple[str, int], int]:
  """((id, index), length) of a line of rollouts."""
  try:
    match json.loads(line):
      case {'id': str(name), 'index': int(index), 'length': int(length)}:
        return (name, index), length
  except (ValueError, RecursionError):
    pass
  raise ValueError(f'{where}: no rollout; give another --out, or mend it')


def to_record(rollout: types.Rollout, with_tokens: bool) -> dict[str, Any]:
  """A line: `logp` is the sum over the response's `length` tokens.

  With tokens: `tokens` are ids, `logps` theirs; both are as in
  `types.Rollout`, and so is `forced`, which is there if any were.
  """
  record = dict(
    id=rollout.prompt_id,
    index=rollout.index,
    stop=rollout.stop,
    length=len(rollout.tokens),
    logp=float(rollout.logp.sum(dtype=np.float64)),
    text=rollout.text,
  )
  if rollout.detail:
    record['detail'] = rollout.detail
  if rollout.forced[0] < rollout.forced[1]:
    record['forced'] = [int(place) for place in rollout.forced]
  if with_tokens:
    # As text, a float32 has no more digits than it needs.
    logps = [float(x) for x in rollout.logp.astype(str)]
    record |= dict(tokens=rollout.tokens.tolist(), logps=logps)
  return record


def read_prompts(path: str, tokenizer: Any) -> list[types.Prompt]:
  """All of them: those that are too long, the engine refuses one by one."""
  prompts, _ = sources.to_prompts(
    sources.jsonl(path, answers=False),
    tokenizer,
    chat_tokens=functools.partial(tokens.chat_tokens, opens=OPENS.value),
    system=SYSTEM.value or None,
    examples=(),
    suffix=SUFFIX.value,
    starter=STARTER.value,
    max_tokens=sys.maxsize,
  )
  return prompts


def make_ending(
  tokenizer: Any, directory: str, vocab: int
) -> engine_lib.Ending:
  """Raises ValueError: tokens that the model or the tokenizer has not."""
  stops = tokens.stop_token_ids(tokenizer, directory)
  for text in filter(None, STOP.value):
    ids = np.array(tokenizer.encode(text, add_special_tokens=False), np.int32)
    if text not in tokens.decode(tokenizer, ids):
      raise ValueError(
        f'--stop={text!r}: responses never hold it; is it a special token, '
        'which is left out of their text?'
      )
  ending = engine_lib.Ending(tokens=stops, strings=tuple(STOP.value))
  if budget := THINKING_BUDGET.value:
    close = tokenizer.get_vocab().get(CLOSE)
    if close is None:
      raise ValueError(
        f'--thinking_budget={budget}: {directory} has no token {CLOSE}'
      )
    forced = tokenizer.encode(THINKING_END.value, add_special_tokens=False)
    if close not in forced:
      raise ValueError(
        f'--thinking_end={THINKING_END.value!r}: holds no {CLOSE}'
      )
    if budget + len(forced) >= MAX_TOKENS.value:
      raise ValueError(
        f'--thinking_budget={budget}: with {len(forced)} tokens to end it, it '
        f'leaves nothing of --max_tokens={MAX_TOKENS.value}'
      )
    ending = ending._replace(budget=budget, close=close, forced=tuple(forced))
  used = {*ending.tokens, *ending.forced}
  if min(used) < 0 or max(used) >= vocab:
    raise ValueError(
      f'{directory}: token {max(used)} is outside its vocabulary of {vocab}; '
      'is the tokenizer that of another model?'
    )
  return ending


def find_window(prompts: list[types.Prompt], context: int) -> int:
  """The longest prompt to serve, tokens."""
  if (fits := context - MAX_TOKENS.value) < 1:
    raise ValueError(
      f'--max_tokens={MAX_TOKENS.value}: the context of {MODEL.value} is '
      f'{context}; give less'
    )
  if WINDOW.value > fits:
    raise ValueError(
      f'--window={WINDOW.value}: with --max_tokens={MAX_TOKENS.value} longer '
      f'than the context of {MODEL.value}, {context}; lower one of them'
    )
  longest = max(len(prompt.tokens) for prompt in prompts)
  return WINDOW.value or max(1, min(longest, fits))


class Job(NamedTuple):
  """What is asked for, before anything large is loaded."""

  directory: str
  tokenizer: Any
  mesh: jax.sharding.Mesh
  model: base.Model
  placed: base.Tree
  prompts: list[types.Prompt]
  ending: engine_lib.Ending
  window: int
  dtype: jnp.dtype
  kv_dtype: jnp.dtype
  settings: dict[str, Any]

  @property
  def rollouts(self) -> int:
    return N.value * len(self.prompts)


def make_sizes(job: Job) -> schedule.Sizes:
  """What flags say and, where they do not, what suits the device.

  Raises:
    ValueError: sizes that do not fit each other, the model or the memory.
  """
  on_cpu = job.mesh.devices.flat[0].platform == 'cpu'
  shards = mesh_lib.row_shards(job.mesh)
  page = PAGE.value or (16 if on_cpu else 128)
  # No more than there are rollouts in all, be they done: the slots, too, can
  # move a logit by a rounding.
  each = min(16 if on_cpu else 64, -(-job.rollouts // shards))
  sizes = schedule.Sizes(
    slots=SLOTS.value or each * shards,
    shards=shards,
    page=page,
    chunk=CHUNK.value or math.gcd(page, 8 if on_cpu else 128),
    pages=PAGES.value,
    rows=4 * shards,
    piece=min(-(-job.window // page), 4) * page,
    window=job.window,
    room=MAX_TOKENS.value,
  )
  weights = sharding.abstract(job.model.specs, job.placed, job.dtype)
  sizes = cache_lib.fit_pages(
    sizes,
    job.model,
    job.mesh,
    job.kv_dtype,
    reserved=mesh_lib.device_bytes(weights),
  )
  schedule.check(sizes)
  return sizes


def read_job() -> Job:
  """Raises ValueError or OSError, one line, for what a user can mend."""
  check_flags()
  mesh = mesh_lib.make_mesh(
    data=DATA.value, fsdp=FSDP.value, tensor=TENSOR.value
  )
  directory = embedded.resolve_model(MODEL.value)
  tokenizer = tokens.load_tokenizer(directory)
  config = decoder.DecoderConfig.from_hf(hf.read_config(directory))
  prompts = read_prompts(PROMPTS.value, tokenizer)
  tokens.check_thinking(tokenizer, (), opens=OPENS.value, reasons=False)
  window = find_window(prompts, config.context)
  # Where they are not given, the file is what it was before there were these.
  words = dict(starter=STARTER.value, opens=OPENS.value)
  ending = make_ending(tokenizer, directory, config.vocab)
  tokenizer.close()
  if tokenizer.reads_clock:
    print(tokens.clock_line(tokenizer), file=sys.stderr)
  on_cpu = mesh.devices.flat[0].platform == 'cpu'
  dtype = DTYPE.value or ('float32' if on_cpu else 'bfloat16')
  kv_dtype = KV_DTYPE.value or dtype
  model = decoder.make_model(config, **mesh_lib.pins(mesh))
  return Job(
    directory=directory,
    tokenizer=tokenizer,
    mesh=mesh,
    model=model,
    # Each token reads every weight: whole, up to tensor parallelism.
    placed=sharding.param_shardings(model.specs, mesh, gathered=True),
    prompts=prompts,
    ending=ending,
    window=window,
    dtype=jnp.dtype(dtype),
    kv_dtype=jnp.dtype(kv_dtype),
    # Neither the mesh nor slots, pages and chunks: they move a logit by a
    # rounding, which changes rollouts, but not what they are samples of.
    settings=dict(
      model=hf.model_digest(directory),
      prompts=hf.digest([pathlib.Path(PROMPTS.value)]),
      prompt_tokens=tokens.digest(prompts),
      tokenizer=tokenizer.digest,
      stop_tokens=list(ending.tokens),
      n=N.value,
      tokens=TOKENS.value,
      seed=SEED.value,
      system=SYSTEM.value,
      suffix=SUFFIX.value,
      **{name: text for name, text in words.items() if text},
      max_tokens=MAX_TOKENS.value,
      window=window,
      temperature=TEMPERATURE.value,
      top_p=TOP_P.value,
      top_k=TOP_K.value,
      min_p=MIN_P.value,
      stop=STOP.value,
      thinking_budget=THINKING_BUDGET.value,
      thinking_end=THINKING_END.value if THINKING_BUDGET.value else '',
      dtype=dtype,
      kv_dtype=kv_dtype,
    ),
  )


def check_flags() -> None:
  """Raises ValueError with flag, value and remedy of the first bad one."""
  one, zero = 'give at least 1', 'give 0 or more'
  checks = [
    (N, N.value >= 1, one),
    (SEED, 0 <= SEED.value < 2**31, 'give 0 to 2**31 - 1'),
    (MAX_TOKENS, MAX_TOKENS.value >= 1, one),
    (WINDOW, WINDOW.value >= 0, zero),
    (TEMPERATURE, 0 <= TEMPERATURE.value < float('inf'), zero),
    (TOP_P, 0 < TOP_P.value <= 1, 'give more than 0, at most 1'),
    (TOP_K, TOP_K.value >= 0, zero),
    (MIN_P, 0 <= MIN_P.value <= 1, 'give 0 to 1'),
    (THINKING_BUDGET, THINKING_BUDGET.value >= 0, zero),
    (SLOTS, SLOTS.value >= 0, zero),
    (PAGE, PAGE.value >= 0, zero),
    (CHUNK, CHUNK.value >= 0, zero),
    (PAGES, PAGES.value >= 0, zero),
  ]
  for flag, good, remedy in checks:
    if not good:
      raise ValueError(f'--{flag.name}={flag.value}: {remedy}')


def load(job: Job) -> tuple[engine_lib.Engine, base.Tree]:
  """The engine and its weights; see `read_job` for what it raises."""
  engine = engine_lib.make_engine(
    job.model,
    job.mesh,
    sizes=make_sizes(job),
    sampling=sampling.Sampling(
      TOP_P.value, TOP_K.value, MIN_P.value, greedy=TEMPERATURE.value == 0
    ),
    ending=job.ending,
    kv_dtype=job.kv_dtype,
    to_text=functools.partial(tokens.decode, job.tokenizer),
  )
  params = hf.load(
    job.directory, job.model.specs, dtype=job.dtype, shardings=job.placed
  )
  return engine, params


def left(job: Job, out: Output) -> list[schedule.Request]:
  """The rollouts that `out` lacks, in the order to start them.

  How long a prompt's rollouts are, those that are done tell.
  """
  lengths: dict[str, list[int]] = {}
  for (name, _), length in out.done.items():
    lengths.setdefault(name, []).append(length)
  asked = schedule.requests(job.prompts, N.value, MAX_TOKENS.value)
  return schedule.longest_first(
    (
      r
      for group in asked
      for r in group
      if (r.prompt.id, r.index) not in out.done
    ),
    {name: float(np.mean(found)) for name, found in lengths.items()},
  )


class Stop:
  """Context manager; SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt.

  SIGHUP stays ignored where it is, as nohup has it.
  `asked` stays True where a library swallowed it: while jax compiles, Python
  may stand in a callback that ignores errors.
  """

  asked = False

  def __enter__(self) -> 'Stop':
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
      numbers.append(signal.SIGHUP)
    self._previous = {n: signal.signal(n, self._handle) for n in numbers}
    return self

  def __exit__(self, *exc) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _handle(self, number: int, frame: Any) -> None:
    self.asked = True
    raise KeyboardInterrupt


@contextlib.contextmanager
def progress(
  total: int, done: int, trace: schedule.Trace
) -> Iterator[Callable[[], None]]:
  """Yields a function to call after each rollout.

  It draws a bar where stderr is a terminal, else writes a line now and then.
  """
  last = time.monotonic()

  def line() -> None:
    nonlocal done, last
    done += 1
    if time.monotonic() - last >= SECONDS_A_LINE:
      last = time.monotonic()
      rate = trace.tokens / max(trace.seconds, 1e-9)
      terminal.say(f'{done}/{total} rollouts  {rate:.0f} tok/s', to_stderr=True)

  with terminal.progress_bar(total, done=done) as advance:
    yield advance if sys.stderr.isatty() else line


def summary(trace: schedule.Trace) -> str:
  values = trace.metrics()
  return (
    f'{trace.tokens} tokens  '
    f'{trace.tokens / max(trace.seconds, 1e-9):.0f} tok/s  '
    f'occupancy {values["occupancy"]:.2f}  '
    f'truncated {trace.truncated}  errors {trace.errors}  '
    f'preempted {trace.preempted}'
  )


def generate(job: Job, out: Output, stop: Stop) -> int:
  """Fills `out` up; returns the exit status."""
  path = terminal.printable(str(out.path))
  if not (asked := left(job, out)):
    terminal.say(f'finished already: {job.rollouts} rollouts in {path}')
    return 0
  there = job.rollouts - len(asked)
  if there:
    terminal.say(f'going on after {there} of {job.rollouts} rollouts')
  with exits.mendable(ValueError, OSError):
    engine, params = load(job)
  trace = schedule.Trace()
  stream = engine.stream(
    params,
    asked,
    seed=SEED.value,
    step=0,
    temperature=TEMPERATURE.value,
    trace=trace,
  )
  try:
    with progress(job.rollouts, there, trace) as advance:
      for rollout in stream:
        with exits.mendable(OSError, where=f'{out.path}: '):
          out.write(to_record(rollout, TOKENS.value))
        advance()
        if stop.asked:
          raise KeyboardInterrupt
  finally:
    with exits.mendable(OSError):
      timeline.write_events(
        f'{out.path}.timeline.jsonl',
        trace.events,
        slots=trace.slots,
        steps=trace.steps,
        tokens=trace.tokens,
        seconds=trace.seconds,
        occupancy=trace.metrics()['occupancy'],
        preempted=trace.preempted,
      )
  terminal.say(f'{job.rollouts} rollouts in {path}: {summary(trace)}')
  return 0


def run() -> int:
  """What the flags say, from files to file; returns the exit status."""
  with Stop() as stop, contextlib.ExitStack() as stack:
    try:
      with exits.mendable(ValueError, OSError):
        job = read_job()
        out = stack.enter_context(Output(OUT.value, job.settings))
      jax_setup.use_precision(job.dtype)
      return generate(job, out, stop)
    except KeyboardInterrupt:
      # Who closed the terminal reads it no more.
      with contextlib.suppress(KeyboardInterrupt):
        terminal.say(
          f'stopped; what has ended is in {terminal.printable(OUT.value)}; the '
          'same command goes on'
        )
      return exits.STOPPED


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise SystemExit(f'error: unexpected arguments: {argv[1:]}')
  terminal.use_stdout()
  jax_setup.quiet_libraries()
  jax_setup.keep_compiled()
  return run()


if __name__ == '__main__':
  flags.mark_flags_as_required(['model', 'prompts', 'out'])
  app.run(main)
