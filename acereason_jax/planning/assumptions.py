"""What a plan assumes, as flags: one for each field of `values.Assumed`."""

import re
import types
from collections.abc import Mapping

from acereason_jax.console import command_line
from acereason_jax.planning import values

# Assumptions that are pairs, as the flag has them.
_PAIRS = {
  'mean_tokens': 'Mean response by the most tokens, MOST:MEAN,MOST:MEAN.',
  'questions': 'Numbers of questions by path of a source, PATH:NUMBER.',
}
_ABOUT = {
  'spread': "Standard deviation of the logarithm of a response's length.",
  'prompt_tokens': 'Mean prompt, tokens.',
  'kept': 'Share of the groups that have a gradient.',
  'bandwidth': 'Share of the memory bandwidth that decoding reaches; 0: what '
  'planning/traffic.py has for the kind of machine.',
  'products': "Share of the peak that the update's products reach; 0: what "
  'planning/traffic.py has for the kind of machine.',
  'links': "Share of the links' bandwidth that collectives reach.",
  'hop_seconds': 'Latency of one hop of a collective.',
  'host_seconds': 'Seconds of the host for each call of decode.',
  'accepted': 'Tokens of a rollout in a decode step with drafts '
  '(engine.speculate).',
  'known': "Share of a probe's prompts with pass counts in their data.",
  'math_seconds': 'CPU seconds of a verdict on math.',
  'code_seconds': 'CPU seconds of a verdict on code.',
  'checkpoint_bandwidth': 'Bytes a second of each host to the store.',
  'price': 'Price of a chip hour; 0: no cost is shown.',
  'seed': 'Seed of the simulated lengths.',
}
_EXPECTED = {
  'mean_tokens': 'MOST:MEAN in tokens, such as 8192:4500',
  'questions': 'PATH:NUMBER, such as code.jsonl:8520',
}
_NUMBER = r'[1-9][0-9]{0,11}(\.[0-9]+)?'
# Most of each; what is larger is a slip, and sums of it would be no numbers.
_DAY = 86400.0
_MOST = {
  **dict.fromkeys(('kept', 'bandwidth', 'products', 'links', 'known'), 1.0),
  **dict.fromkeys(('host_seconds', 'math_seconds', 'code_seconds'), _DAY),
  'hop_seconds': 1.0,
  'accepted': 1e3,
  'checkpoint_bandwidth': 1e15,
  'price': 1e6,
}
# Least of what is divided by; bandwidth and products may also be 0.
_LEAST = {
  'bandwidth': 1e-3,
  'products': 1e-3,
  'kept': 1e-3,
  'links': 1e-3,
  'accepted': 1.0,
  'checkpoint_bandwidth': 1e3,
}
_OR_0 = 'bandwidth', 'products'


def define(flags: command_line.Flags) -> None:
  """Defines a flag for each field of `values.Assumed`."""
  for name, default in values.Assumed._field_defaults.items():
    about = _PAIRS.get(name) or _ABOUT.get(name, 'See planning/values.py.')
    if isinstance(default, Mapping):
      flags.string(name, '', about)
    elif isinstance(default, int):
      flags.integer(name, default, about, lower_bound=0)
    else:
      most = _MOST.get(name)
      flags.number(name, default, about, lower_bound=0.0, upper_bound=most)


def read(args: types.SimpleNamespace) -> values.Assumed:
  """What the flags say that the plan assumes. Raises ValueError, one line."""
  fields = {name: getattr(args, name) for name in values.Assumed._fields}
  for name, least in _LEAST.items():
    value = fields[name]
    if value < least and (value or name not in _OR_0):
      other = '0, or ' if name in _OR_0 else ''
      raise ValueError(
        f'--{name}={value:g}: expected {other}at least {least:g}'
      )
  defaults = values.Assumed()
  means = {
    int(most): mean for most, mean in _pairs('mean_tokens', args).items()
  }
  if bad := [most for most, mean in means.items() if not mean < most]:
    raise ValueError(
      f'--mean_tokens={args.mean_tokens}: the mean at most {bad[0]} is not '
      'below it; give a mean such as that of 8192:4500'
    )
  questions = _pairs('questions', args)
  return defaults._replace(
    **fields
    | dict(
      mean_tokens=dict(defaults.mean_tokens) | means,
      questions=dict(defaults.questions)
      | {path: int(number) for path, number in questions.items()},
    )
  )


def _pairs(name: str, args: types.SimpleNamespace) -> dict[str, float]:
  """The pairs KEY:NUMBER of a flag. Raises ValueError, one line."""
  text, found = getattr(args, name), {}
  for pair in filter(None, text.split(',')):
    # A path may have a colon too.
    key, _, number = pair.rpartition(':')
    whole = name == 'questions' or key.isdecimal()
    if not key or not whole or not re.fullmatch(_NUMBER, number):
      raise ValueError(f'--{name}={text}: {pair!r}: expected {_EXPECTED[name]}')
    found[key] = float(number)
  return found
