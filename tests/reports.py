"""Made-up reports for the page's tests: the same arguments, the same report."""

import json
import math

import numpy as np

from acereason_jax.data import archive
from acereason_jax.reporting import values

STATUSES = ('right', 'wrong', 'unparsed', 'timeout', 'error')
STAGES = ('warm', 'long', 'code')
TEXT = """so then we have the sum of all x which is equal to two times three
plus four hence let us check that again because wait maybe not if n is even
therefore thus \\frac{1}{2} $x^2$ = 17 and (a+b) , . = <b> & "q" """
WORDS = [*TEXT.split(), '\n\n']
SCALES = dict(
  surprise=tuple(archive.SURPRISE),
  entropy=tuple(archive.ENTROPY),
  mismatch=tuple(archive.MISMATCH),
)
# name, title, unit, group, first value, last value, noise.
METRICS = (
  ('reward', 'Reward', '', 'learning', 0.2, 0.7, 0.05),
  ('pass_rate', 'Pass rate', '', 'learning', 0.25, 0.72, 0.05),
  ('entropy', 'Entropy', 'nats', 'policy', 0.6, 0.2, 0.02),
  ('mismatch', 'Mismatch', 'nats', 'policy', 2e-3, 6e-3, 5e-4),
  ('response_length', 'Response length', 'tokens', 'policy', 3e3, 9e3, 400),
  ('truncated_share', 'Truncated', '', 'rollouts', 0.05, 0.2, 0.02),
  ('unparsed_share', 'Unparsed', '', 'rollouts', 0.2, 0.02, 0.02),
  ('seconds_step', 'Seconds a step', 's', 'time', 60, 140, 6),
  ('grad_norm', 'Gradient norm', '', 'more', 2, 0.5, 0.2),
)


def curves(name, steps, seed, every=20):
  random = np.random.default_rng(seed)
  taken = list(range(1, steps + 1))
  at = np.linspace(0, 1, steps)
  drawn = [
    values.Series(*text, (low + (high - low) * at + d).tolist())
    for *text, low, high, noise in METRICS
    for d in [noise * random.standard_normal(steps)]
  ]
  looks = [None] * steps
  errors = [None] * steps
  for i in range(0, steps, every):
    looks[i], errors[i] = 0.2 + 0.5 * i / steps, 0.03
  heldout = [
    values.Series('heldout/math', 'Held out, math', '', 'learning', looks),
    values.Series('heldout_error/math', 'Error', '', 'learning', errors),
  ]
  third = max(steps // 3, 1)
  bands = [
    values.Band(stage, i * third + 1, steps if i == 2 else (i + 1) * third)
    for i, stage in enumerate(STAGES)
    if i * third < steps
  ]
  hours = np.cumsum(random.uniform(0.02, 0.04, steps)).tolist()
  tokens = np.cumsum(random.uniform(1e6, 2e6, steps)).tolist()
  restarts = sorted({1, steps // 4 + 1, steps // 2 + 1})
  return values.Curves(
    name, taken, hours, tokens, bands, restarts, [*heldout, *drawn]
  )


def text_of(random, tokens):
  """(text, characters) of so many tokens, with a thought that ends."""
  words = [WORDS[i] + ' ' for i in random.integers(len(WORDS), size=tokens)]
  words[0] = '<think>\n'
  if tokens > 20:
    words[-15] = '</think>\n'
    words[-1] = '\\boxed{17}'
  return ''.join(words), [len(word) for word in words]


def codes(random, tokens):
  return np.minimum(random.exponential(40, tokens), 255).astype(int).tolist()


def why(status):
  if status == 'timeout':
    return values.Why((), 'the judge was not asked in time', 'report --why x')
  lines = [('extracted', '17'), ('reference', '18'), ('decided by', 'sympy')]
  return values.Why(lines, '', "python -m acereason_jax.report --why 'runs/x'")


def sample(random, *, step, prompt, index, tokens, **changes):
  i = int(random.integers(len(STATUSES)))
  phase = archive.HELDOUT if step // 10 % 5 == 2 else archive.TRAIN
  text, characters = text_of(random, tokens)
  stop = ('stop', 'length')[int(random.integers(4) == 0)]
  trained = phase == archive.TRAIN
  row = archive.Row(
    step=step,
    phase=phase,
    stage=STAGES[step * len(STAGES) // 1000 % len(STAGES)],
    domain=('math', 'code')[int(random.integers(2))],
    prompt=prompt,
    index=index,
    status=STATUSES[i],
    detail=('same number', 'no box', 'cut off')[int(random.integers(3))],
    reward=float(i == 0),
    solved=i == 0,
    advantage=round(float(random.normal()), 3) if trained else None,
    counted=True,
    trained=trained,
    length=tokens,
    stop=stop,
    logp=round(-0.3 * tokens, 2),
    entropy=round(0.4 * tokens, 2),
    kept=archive.REASONS[int(random.integers(len(archive.REASONS)))],
  )._asdict()
  return values.Sample(
    row | changes,
    f'What is the sum number {prompt}?',
    '18',
    text,
    characters,
    codes(random, tokens),
    codes(random, tokens) if trained else None,
    codes(random, tokens) if trained else None,
    why(STATUSES[i]),
  )


def samples(groups, tokens, seed, per_group=4):
  random = np.random.default_rng(seed)
  found = []
  for group in range(groups):
    step = 1 + group * 1000 // max(groups, 1)
    for index in range(per_group):
      length = max(int(tokens * random.uniform(0.2, 1.8)), 30)
      key = dict(step=step, prompt=f'sum-{group}', index=index)
      found.append(sample(random, tokens=length, **key))
  count = len(found)
  return values.Samples(found, 9 * count, 1000 * count, 'thinned', SCALES)


def prompts(count):
  kinds = ('became solvable', 'lost', 'never solved', 'always solved', 'mixed')
  found = [
    values.Prompt(
      f'sum-{i}',
      ('math', 'code')[i % 2],
      kinds[i % len(kinds)],
      [(10 * t + 1, min(8, (i + t) % 9), 8) for t in range(12)],
    )
    for i in range(count)
  ]
  counts = {kind: 100 + i for i, kind in enumerate(kinds)}
  return values.Prompts(found, counts, (42, 7.5, 900), 'the first of each kind')


def slots(count, seed=0):
  random = np.random.default_rng(seed)
  stays = []
  for slot in range(count):
    began = 0
    for i in range(5):
      ended = began + int(random.integers(20, 400))
      reason = ('stop', 'length', 'error', 'preempted')[
        int(random.choice(4, p=[0.7, 0.2, 0.05, 0.05]))
      ]
      stays.append(values.Stay(slot, f'sum-{i}', slot, began, ended, reason))
      began = ended
  return values.Slots(960, [('slots', str(count)), ('occupancy', '.81')], stays)


def node(name, milliseconds, *parts, lever=''):
  assert not parts or milliseconds == sum(p.milliseconds for p in parts)
  return values.Node(name, milliseconds, lever, parts)


def waste():
  decode = [
    node('trained', 2_000_001),
    node('no signal', 900_000, lever='Filter prompts, or refill.'),
    node('tail', 700_002, lever='More slots, or a refill.'),
  ]
  sample = [
    node('decode', 3_600_003, *decode),
    node('prefill', 200_000, lever='Shorter prompts.'),
    node('host', 33_333),
  ]
  update = [node('response tokens', 1_000_000), node('padding', 111_111)]
  parts = [
    node('sample', 3_833_336, *sample),
    node('update', 1_111_111, *update)._replace(figure='MFU 38.2%'),
    node('compile', 120_007, lever='Keep the compilation cache.'),
    node('down', 60_000, lever='Restart at once.'),
    node('unrecorded', 0),
  ]
  whole = node('wall time', sum(p.milliseconds for p in parts), *parts)
  return values.Waste(whole, ['Tokens before a restart are not in the slots.'])


def config_fields(count):
  fields = []
  for i in range(count):
    value = json.dumps(i)
    stages = {'long': json.dumps(i + 1)} if i % 7 == 0 else {}
    others = {'other': json.dumps(-i)} if i % 11 == 0 else {}
    recipe = json.dumps(0) if i % 5 == 0 else value
    default = None if i % 13 == 0 else value
    name = f'section{i // 10}.field_{i}'
    fields.append(values.Field(name, value, recipe, default, stages, others))
  return fields


def alarms():
  return [
    values.Alarm(
      'bad',
      'Many answers are not parsed',
      '31% of steps 200 to 400; most often: no box.',
      'rollouts',
      dict(status='unparsed', step_from=200, step_to=400),
    ),
    values.Alarm(
      'warn', 'Entropy halved', '.61 to .22 since step 1.', 'curves', {}
    ),
    values.Alarm('good', 'Held-out rose', '20% to 70%.', 'curves', {}),
  ]


def report(*, steps=60, groups=10, tokens=200, runs=2, seed=0):
  """A report with all its parts; `groups` of four rollouts each."""
  compared = [curves(f'run {i}', steps - i, seed + i) for i in range(runs)]
  table = values.Table(
    'AIME 2024', 'avg@64', ['run', 'score'], [['this', '61.2'], ['base', '55']]
  )
  return values.Report(
    'my7b',
    [
      ('config', 'configs/recipe.py'),
      ('stage', 'code, the last'),
      ('best held-out', '70.1% ± 3.0 at step 40'),
      ('wall time', '14 h 20 min'),
    ],
    alarms(),
    compared,
    samples(groups, tokens, seed),
    prompts(40),
    slots(12),
    waste(),
    config_fields(60),
    [table],
    ['timeline.jsonl is of an older step.'],
  )


def large():
  """What the page promises to hold: 6,000 steps, 200 rollouts, 1.5 M tokens."""
  return report(steps=6000, groups=50, tokens=7500, runs=3)


def bounds(scale, code):
  """(low, high) of the bin of 32 codes that shows a code, by hand."""
  unit, most = scale
  top = math.log1p(most / unit)
  at = lambda c: unit * math.expm1(max(c, 0) * top / 255)
  first = code // 32 * 32
  return at(first - 0.5), at(first + 31.5)
