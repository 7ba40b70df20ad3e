"""Generate's job: the rollouts to draw, from a model, prompts and settings.

Everything is checked here before anything large is loaded.
"""

import functools
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax import hub, types
from acereason_jax import mesh as mesh_lib
from acereason_jax.data import sources
from acereason_jax.models import hf, tokens, tokens_decode
from acereason_jax.rollout import programs, requests, sampling, serve


class Settings(NamedTuple):
  """The settings of generate: a field for each flag, of the same name.

  model: a model directory, an embedded model's name, a run or its checkpoint.
  prompts: path of JSON lines.
  out: path of the file of rollouts.
  n: rollouts of each prompt.
  tokens: whether lines hold token ids and their log-probabilities.
  seed: seed of the random keys, 0 to 2**31 - 1.
  system: the system turn; '' for none.
  suffix: text after each question.
  starter: text that replaces `suffix` where the row has a starter.
  opens: text that the reply follows, if the chat template lacks it.
  max_tokens: most tokens of a response.
  window: most tokens of a prompt; 0 for the longest that fits the context.
  temperature: sampling temperature; 0 takes the most likely token.
  top_p: probability mass of the most likely tokens to keep, above 0 to 1.
  top_k: number of the most likely tokens to keep; 0 for all.
  min_p: least probability to keep, as a share of the largest.
  stop: texts that end a response.
  thinking_budget: tokens before the end of thinking is inserted; 0 for no
    limit.
  thinking_end: text that is inserted.
  slots, page, chunk, pages: see `serve.Asked`.
  dtype: dtype of weights and compute; None chooses one for the device.
  kv_dtype: dtype of the cache; None for `dtype`.
  data, fsdp, tensor: sizes of the mesh; one may be -1, for the devices left.
  """

  model: str
  prompts: str
  out: str
  n: int
  tokens: bool
  seed: int
  system: str
  suffix: str
  starter: str
  opens: str
  max_tokens: int
  window: int
  temperature: float
  top_p: float
  top_k: int
  min_p: float
  stop: list[str]
  thinking_budget: int
  thinking_end: str
  slots: int
  page: int
  chunk: int
  pages: int
  dtype: str | None
  kv_dtype: str | None
  data: int
  fsdp: int
  tensor: int


class Job(NamedTuple):
  """The rollouts to draw, with everything checked.

  settings: settings that the user gave.
  weights: source of the model's parameters.
  files: other files of the model.
  mesh: the devices.
  prompts: all prompts; the engine refuses each one that is too long.
  ending: what ends a rollout.
  window: most tokens of a prompt.
  dtype: dtype of weights and compute.
  kv_dtype: dtype of the cache.
  header: everything that the rollouts depend on, as JSON; a file next to the
    rollouts keeps it.
  """

  settings: Settings
  weights: serve.Weights
  files: serve.ModelFiles
  mesh: jax.sharding.Mesh
  prompts: list[types.Prompt]
  ending: programs.Ending
  window: int
  dtype: jnp.dtype
  kv_dtype: jnp.dtype
  header: dict[str, Any]

  @property
  def rollouts(self) -> int:
    return self.settings.n * len(self.prompts)


def check(s: Settings) -> None:
  """Raises ValueError with flag, value and remedy of the first bad one."""
  one, zero = 'give at least 1', 'give 0 or more'
  checks = [
    ('n', s.n >= 1, one),
    ('seed', 0 <= s.seed < 2**31, 'give 0 to 2**31 - 1'),
    ('max_tokens', s.max_tokens >= 1, one),
    ('window', s.window >= 0, zero),
    ('temperature', 0 <= s.temperature < float('inf'), zero),
    ('top_p', 0 < s.top_p <= 1, 'give more than 0, at most 1'),
    ('top_k', s.top_k >= 0, zero),
    ('min_p', 0 <= s.min_p <= 1, 'give 0 to 1'),
    ('thinking_budget', s.thinking_budget >= 0, zero),
    ('slots', s.slots >= 0, zero),
    ('page', s.page >= 0, zero),
    ('chunk', s.chunk >= 0, zero),
    ('pages', s.pages >= 0, zero),
  ]
  for name, good, remedy in checks:
    if not good:
      raise ValueError(f'--{name}={getattr(s, name)}: {remedy}')


def read(s: Settings, weights: serve.Weights) -> Job:
  """Raises ValueError or OSError, one line, for errors that a user can fix."""
  mesh = mesh_lib.make_mesh(data=s.data, fsdp=s.fsdp, tensor=s.tensor)
  files = serve.read_model(weights.directory)
  prompts = read_prompts(s, files.tokenizer)
  tokens.check_thinking(files.tokenizer, (), opens=s.opens, reasons=False)
  window = find_window(s, prompts, files.network.config.context)
  ending = make_ending(s, files)
  files.tokenizer.close()
  if files.tokenizer.reads_clock:
    print(tokens.clock_line(files.tokenizer), file=sys.stderr)
  on_cpu = mesh.devices.flat[0].platform == 'cpu'
  dtype = s.dtype or ('float32' if on_cpu else 'bfloat16')
  kv_dtype = s.kv_dtype or dtype
  return Job(
    settings=s,
    weights=weights,
    files=files,
    mesh=mesh,
    prompts=prompts,
    ending=ending,
    window=window,
    dtype=jnp.dtype(dtype),
    kv_dtype=jnp.dtype(kv_dtype),
    header=weights.digests()
    | prompt_digests(s, files, prompts)
    | sampling_settings(s)
    | dict(
      stop_tokens=list(ending.tokens),
      window=window,
      dtype=dtype,
      kv_dtype=kv_dtype,
    ),
  )


def read_prompts(s: Settings, tokenizer: Any) -> list[types.Prompt]:
  prompts, _ = sources.to_prompts(
    sources.jsonl(s.prompts, answers=False),
    tokenizer,
    chats_tokens=functools.partial(tokens.chats_tokens, opens=s.opens),
    system=s.system or None,
    examples=(),
    suffix=s.suffix,
    starter=s.starter,
    max_tokens=sys.maxsize,
  )
  return prompts


def prompt_digests(
  s: Settings, files: serve.ModelFiles, prompts: list[types.Prompt]
) -> dict[str, str]:
  return dict(
    prompts=hf.digest([pathlib.Path(hub.local(s.prompts))]),
    prompt_tokens=tokens.digest(prompts),
    tokenizer=files.tokenizer.digest,
  )


def sampling_settings(s: Settings) -> dict[str, Any]:
  """The settings that determine the distribution of the rollouts.

  The mesh, slots, pages and chunks are not among them: they change the rounding
  of logits, which changes rollouts, but not their distribution.
  """
  # Files written before these two settings existed do not name them.
  newer = {
    name: text
    for name, text in dict(starter=s.starter, opens=s.opens).items()
    if text
  }
  return newer | dict(
    n=s.n,
    tokens=s.tokens,
    seed=s.seed,
    system=s.system,
    suffix=s.suffix,
    max_tokens=s.max_tokens,
    temperature=s.temperature,
    top_p=s.top_p,
    top_k=s.top_k,
    min_p=s.min_p,
    stop=list(s.stop),
    thinking_budget=s.thinking_budget,
    thinking_end=s.thinking_end if s.thinking_budget else '',
  )


def make_ending(s: Settings, files: serve.ModelFiles) -> programs.Ending:
  """Raises ValueError for tokens that the model or the tokenizer lacks."""
  tokenizer = files.tokenizer
  for text in filter(None, s.stop):
    ids = np.array(tokenizer.encode(text, add_special_tokens=False), np.int32)
    if text not in tokens.decode(tokenizer, ids):
      raise ValueError(
        f'--stop={text!r}: responses never hold it; is it a special token, '
        'which is left out of their text?'
      )
  ending = programs.Ending(tokens=files.stops, strings=tuple(s.stop))
  if s.thinking_budget:
    close, forced = _end_of_thinking(s, files)
    ending = ending._replace(
      budget=s.thinking_budget, close=close, forced=forced
    )
  serve.check_vocabulary(
    files.directory,
    files.network.config.vocab,
    [*ending.tokens, *ending.forced],
  )
  return ending


def _end_of_thinking(
  s: Settings, files: serve.ModelFiles
) -> tuple[int, tuple[int, ...]]:
  """(id of the token that closes the thinking, ids of the inserted tokens)."""
  where = f'--thinking_budget={s.thinking_budget}'
  close = files.tokenizer.get_vocab().get(tokens_decode.CLOSE)
  if close is None:
    raise ValueError(
      f'{where}: {files.directory} has no token {tokens_decode.CLOSE}'
    )
  forced = files.tokenizer.encode(s.thinking_end, add_special_tokens=False)
  if close not in forced:
    raise ValueError(
      f'--thinking_end={s.thinking_end!r}: holds no {tokens_decode.CLOSE}'
    )
  if s.thinking_budget + len(forced) >= s.max_tokens:
    raise ValueError(
      f'{where}: with {len(forced)} tokens to end it, it leaves nothing of '
      f'--max_tokens={s.max_tokens}'
    )
  return close, tuple(forced)


def find_window(s: Settings, prompts: list[types.Prompt], context: int) -> int:
  """Most tokens of a prompt: as given, or those of the longest that fits."""
  if (fits := context - s.max_tokens) < 1:
    raise ValueError(
      f'--max_tokens={s.max_tokens}: the context of {s.model} is {context}; '
      'give less'
    )
  lengths = {'--window': s.window, '--max_tokens': s.max_tokens}
  serve.check_context(lengths, s.model, context)
  longest = max(len(prompt.tokens) for prompt in prompts)
  return s.window or max(1, min(longest, fits))


def load(job: Job) -> serve.Served:
  """The engine and the weights; raises as `serve.serve` does."""
  s = job.settings
  sizes = serve.choose_sizes(
    serve.Asked(s.slots, s.page, s.chunk, s.pages),
    job.mesh,
    window=job.window,
    max_tokens=s.max_tokens,
  )
  return serve.serve(
    job.weights,
    job.files,
    job.mesh,
    sizes=sizes,
    sampling=sampling.Sampling(
      s.top_p, s.top_k, s.min_p, greedy=s.temperature == 0
    ),
    ending=job.ending,
    dtype=job.dtype,
    kv_dtype=job.kv_dtype,
    rollouts=job.rollouts,
  )


def missing(
  job: Job, done: Mapping[tuple[str, int], int]
) -> list[requests.Request]:
  """The rollouts that are not `done`, in the order to start them.

  `done` maps (id, index) to a length in tokens, which predicts the length of
  the other rollouts of that prompt.
  """
  lengths: dict[str, list[int]] = {}
  for (name, _), length in done.items():
    lengths.setdefault(name, []).append(length)
  s = job.settings
  asked = requests.for_prompts(job.prompts, s.n, s.max_tokens)
  return requests.longest_first(
    (r for group in asked for r in group if r.key not in done),
    {name: float(np.mean(found)) for name, found in lengths.items()},
  )
