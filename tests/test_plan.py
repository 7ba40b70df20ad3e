"""The command `plan`: its JSON, its tables, its exit status, its one line."""

import ast
import json
import operator
import pathlib
import re
import subprocess
import sys

import called
import pytest
import tiny

from acereason_jax import machines, plan
from acereason_jax.curriculum import ledger, parquet
from acereason_jax.models import shape as shape_lib
from acereason_jax.planning import (
  assumptions,
  compiled,
  record,
  search,
  search_table,
  table,
  values,
)
from acereason_jax.rollout import engine_sizes

ROOT = tiny.TESTS.parent
SEVEN = f'--config={ROOT}/configs/acereason_7b.py'
V5P = '--hardware=v5p:4x4x4'
# The names that scripts of users may rely on.
STAGE_KEYS = {
  *('name', 'fits', 'step_seconds', 'hours', 'generation_share', 'chips'),
  *('slots', 'mesh', 'rollout_mesh'),
}


def hand(name='math_8k', **changes):
  """A plan of a stage by hand: 100 s a step, of which 80 generate."""
  shape = shape_lib.Shape('7b', 28, 3584, 28, 4, 128, 152064, 10, 10, 9)
  sizes = engine_sizes.Sizes(256, 64, 128, 128, 1000, 256, 256, 1024, 8192)
  mesh = dict(data=1, fsdp=64, tensor=1, sequence=1)
  empty = dict.fromkeys(values.Work._fields, 0)
  work = values.Work(
    **empty
    | dict(
      name=name,
      steps=36,
      shape=shape,
      mesh=mesh,
      rollout_mesh=mesh | dict(fsdp=16, tensor=4),
      sizes=sizes,
      heldout=sizes,
      prompts=128,
      groups=8.0,
      remat='attention',
      checkpoint_bytes=91e9,
    )
  )
  parts = dict(weights=50.0, kv=20.0)
  decoded = values.Decoded(
    70.0, 8192, 64, 640_000, 0.5, 0.25, 1.5, 1.2, 3, parts
  )
  timed = values.Timed(
    name,
    dict(prefill=10.0, decode=70.0, update=20.0, judges=0.0),
    36,
    decoded,
    3.0,
    0.9,
    0.55,
    (values.Waste(17.5, 'half of the slots are idle', 'speculate'),),
  )
  full = dict(state=1e9, weights=15e9, pages=34e9)
  phases = (
    values.Phase('load', dict(state=2e9), 95e9),
    values.Phase('sample', full, 95e9),
  )
  made = values.Planned(
    name=name,
    work=work,
    phases=phases,
    host=dict(moments=3e9, loading=1e9),
    journal_bytes=2e6,
    refused='',
    knob=None,
    timed=timed,
  )
  return made._replace(**changes)


KNOB = values.Knob({'config.mesh.tensor': 4}, 'a quarter of the weights')
FULL = (values.Phase('sample', dict(weights=96e9), 95e9),)


def made(*stages, text='v5p:4x4x4', **assumed):
  about = dict(config='mine', model='7b', digest='0')
  hardware = machines.hardware(text)
  return record.of(stages, hardware, values.Assumed(**assumed), about)


def test_the_numbers_of_a_record():
  found = json.loads(
    json.dumps(made(hand(), hand('two'), price=2.0), allow_nan=False)
  )
  one, _ = found['stages']
  assert one.keys() >= STAGE_KEYS
  assert found['fits'] is True
  # 36 steps of 100 s are an hour, on 64 chips.
  assert one['step_seconds'] == 100 and one['hours'] == 1
  assert one['chips'] == 64 and one['chip_hours'] == 64
  assert one['cost'] == 128 and found['cost'] == 256
  assert found['hours'] == 2
  assert one['generation_share'] == 0.8
  # 640,000 tokens in 100 s on 64 chips.
  assert one['tokens_per_second_a_chip'] == 100
  assert one['rollouts'] == 1024 and one['slots'] == 256
  assert one['mesh']['fsdp'] == 64 and one['rollout_mesh']['tensor'] == 4
  assert [phase['bytes'] for phase in one['memory']] == [2e9, 50e9]
  assert one['host_bytes'] == 4e9
  assert found['assumed']['mean_tokens']['8192'] == 4500


def test_chips_are_not_devices_where_a_chip_is_two():
  [stage] = made(hand(), text='tpu7x:4x4x4')['stages']
  assert stage['chips'] == 64 and stage['tokens_per_second_a_chip'] == 100


def test_what_cannot_be_built_has_no_time():
  refused = hand(work=None, timed=None, phases=(), refused='slots=5: no')
  found = json.loads(json.dumps(made(hand(), refused), allow_nan=False))
  assert found['fits'] is False and found['hours'] is None
  assert found['stages'][1].keys() >= STAGE_KEYS
  assert found['stages'][1]['hours'] is None
  text = '\n'.join(table.told(found))
  # More devices would not help: the words say themselves what to change.
  assert 'slots=5: no' in text and 'no change is known' not in text
  large = made(hand(phases=FULL))
  assert 'no change is known' in ' '.join(table.told(large))


def with_knob():
  found = made(hand(), hand('two', phases=FULL, knob=KNOB))
  [found['stages'][1]['with_knob']] = made(hand('two'))['stages']
  return found


@pytest.mark.parametrize('found', [made(hand(), price=2.0), with_knob()])
def test_tables_fit_a_terminal_and_markdown_has_whole_rows(found):
  lines = table.told(found)
  assert max(map(len, lines)) <= 80
  text = '\n'.join(lines)
  assert 'simulated, not measured' in text
  # Phases that take no time anywhere have no column.
  assert 'judges' not in text
  assert 'half of the slots are idle; speculate' in ' '.join(text.split())
  # Those that are not '' or {}.
  for name in {*values.Assumed._fields} - {'questions'}:
    assert f'{name}=' in text
  assert 'mesh fsdp=64; of rollouts fsdp=16 tensor=4' in text


def test_a_plan_tells_the_shares_and_the_numbers_that_it_used():
  found = made(hand(), bandwidth=0.5)
  assert found['assumed']['bandwidth'] == 0.5
  # What traffic.py has for v5p, and not the flag's 0.
  assert found['assumed']['products'] == 0.825
  found['questions'] = ['rows.jsonl: 7, counted', 'rows.jsonl: 7, counted']
  text = ' '.join(' '.join(table.told(found)).split())
  assert 'Questions: rows.jsonl: 7, counted. Assumed' in text
  for block in re.findall(r'(?:^\|.*\n)+', table.markdown(found), re.M):
    assert len({line.count('|') for line in block.splitlines()}) == 1


def test_what_does_not_fit_is_shown_with_its_knob():
  found = with_knob()
  text = ' '.join(' '.join(table.told(found)).split())
  assert 'two: does not fit: sample takes 96.0 of 95.0 GB a device' in text
  assert 'with --config.mesh.tensor=4 it fits (a quarter of' in text
  assert '100 s a step, 1.00 hours' in text and 'two* ' in text
  # Two stages of one knob are told of once.
  [found['stages'][0]] = made(hand(phases=FULL, knob=KNOB))['stages']
  [found['stages'][0]['with_knob']] = made(hand())['stages']
  text = ' '.join(' '.join(table.told(found)).split())
  assert text.count('a quarter of the weights') == 1
  assert 'math_8k, two: with --config.mesh.tensor=4' in text
  assert '100, 100 s a step, 2.00 hours' in text
  found = with_knob()
  text = ' '.join(' '.join(table.told(found)).split())
  assert text.endswith('It does not fit: two.')


def test_the_fullest_phase_is_the_one_nearest_its_room():
  phases = (
    values.Phase('load', dict(x=60.0), 100.0),
    values.Phase('sample', dict(x=50.0), 60.0),
  )
  [stage] = made(hand(phases=phases))['stages']
  assert table.fullest(stage)['name'] == 'sample'


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
  """(exit status, what was said) of the command in this process."""
  monkeypatch.chdir(tmp_path)

  return called.by(plan, capsys, monkeypatch)


def test_every_assumption_is_a_flag_and_is_explained(call):
  status, said = call('--help')
  assert status == 0
  for name in values.Assumed._fields:
    [line] = re.findall(rf'^  --{name}: (.*)$', said, re.M)
    assert 'See planning/values.py' not in line


def test_a_plan_needs_the_config_alone(call, tmp_path):
  """In an empty folder: no data, no model's files, no tokenizer."""
  status, said = call(
    *(SEVEN, V5P, '--model=qwen2-7b', '--json=plan.json', '--markdown=plan.md'),
    *('--price=4.2', '--mean_tokens=8192:4000'),
  )
  assert status == 0, said
  assert max(map(len, said.splitlines())) <= 80
  assert {p.name for p in tmp_path.iterdir()} == {'plan.json', 'plan.md'}
  found = json.loads((tmp_path / 'plan.json').read_text())
  assert {'fits', 'hours', 'stages'} <= found.keys()
  names = [
    'math_8k',
    'math_16k',
    'math_24k',
    'code_24k',
    'code_32k',
    'math_32k',
  ]
  assert [stage['name'] for stage in found['stages']] == names
  for stage in found['stages']:
    assert stage.keys() >= STAGE_KEYS and stage['fits'] is True
    assert stage['hours'] == pytest.approx(
      stage['steps'] * stage['step_seconds'] / 3600
    )
    assert stage['step_seconds'] == pytest.approx(
      sum(stage['seconds'].values())
    )
    assert 0 < stage['generation_share'] < 1 and stage['chips'] == 64
    assert stage['mesh'] == dict(data=1, fsdp=64, tensor=1, sequence=1)
    assert stage['rollout_mesh'] == dict(data=1, fsdp=16, tensor=4, sequence=1)
    for phase in stage['memory']:
      assert sum(phase['parts'].values()) == pytest.approx(phase['bytes'])
  assert found['hours'] == pytest.approx(
    sum(stage['hours'] for stage in found['stages'])
  )
  assert found['stages'][0]['decode']['tokens'] == pytest.approx(
    1024 * 4000, rel=0.02
  )
  assert found['cost'] == pytest.approx(4.2 * 64 * found['hours'])


def test_what_does_not_fit_is_status_1_and_its_knob_makes_it_fit(call):
  """SCALE of v5e: whole bfloat16 weights are 15.2 of 15.75 GiB of a chip."""
  given = SEVEN, '--hardware=v5e:16x16', '--stage=math_8k'
  whole = '--config.rollout_mesh.tensor=1'
  status, said = call(*given, whole, '--json=plan.json')
  assert status == 1
  [stage] = json.loads(pathlib.Path('plan.json').read_text())['stages']
  assert not stage['fits']
  assert stage['knob']['fields'] == {'config.rollout_mesh.tensor': 0}
  assert stage['with_knob']['fits'] and 'It does not fit: math_8k' in said
  knob = [f'--{k}={v}' for k, v in stage['knob']['fields'].items()]
  status, said = call(*given, *knob, '--json=again.json')
  assert status == 0, said
  again = json.loads(pathlib.Path('again.json').read_text())
  assert again['hours'] == pytest.approx(stage['with_knob']['hours'])


def test_stages_and_fields_of_the_config_may_be_chosen(call):
  """Rollouts on one device each read four times the weights."""
  given = SEVEN, V5P, '--stage=math_16k', '--json=plan.json'
  found = {}
  for name, more in {
    'own': (),
    'whole': ('--config.rollout_mesh.tensor=1',),
    'few slots': ('--config.engine.slots=256',),
    'adapters': ('--config.lora.rank=16',),
  }.items():
    status, said = call(*given, *more)
    assert status == 0, said
    [found[name]] = json.loads(pathlib.Path('plan.json').read_text())['stages']
  assert found['whole']['rollout_mesh'] == found['whole']['mesh']
  assert found['own']['rollout_mesh']['tensor'] == 4
  assert found['own']['mesh']['tensor'] == 1
  decode = {name: stage['seconds']['decode'] for name, stage in found.items()}
  assert decode['own'] < decode['whole']
  assert decode['few slots'] > decode['own']
  state = {n: s['memory'][0]['bytes'] for n, s in found.items()}
  assert state['adapters'] < state['own']


def test_a_model_and_a_config_of_ones_own(call, tmp_path):
  """A folder that has config.json alone, and data that are not there."""
  tiny.write(tmp_path)
  for name in ('model/model.safetensors', 'train.jsonl', 'heldout.jsonl'):
    (tmp_path / name).unlink()
  for name in ('tokenizer.json', 'tokenizer_config.json'):
    (tmp_path / 'model' / name).unlink()
  for name in ('tiny_config', 'staged_config'):
    status, said = call(
      f'--config={tmp_path}/{name}.py', '--hardware=v5p:2x2x1', '--json=p.json'
    )
    assert status in (0, 1) and 'error' not in said, said
    assert json.loads(pathlib.Path('p.json').read_text())['stages']


def test_this_machine_is_measured(call, tmp_path):
  """Its rates are in no table; the four devices of tests are one machine."""
  tiny.write(tmp_path)
  here = f'--config={tmp_path}/tiny_config.py', '--hardware=cpu:4'
  status, said = call(*here, '--calibrate', '--json=p.json')
  assert status == 0, said
  (stage,) = json.loads(pathlib.Path('p.json').read_text())['stages']
  assert stage['step_seconds'] > 0 and stage['mfu'] > 0
  measured = ('prefill', 'decode', 'update')
  assert all(stage['seconds'][name] > 0 for name in measured)


def ledger_of(stage, longest, path='l.parquet'):
  """The file of a ledger: a group of 8 rollouts of `longest` tokens each."""
  one = ledger.Record(
    *('train', stage, 0, 1, 'math', 'a', 4, 4, 0, 0, 0),
    truncated=0,
    tokens=8 * longest,
    longest=longest,
    solved=4,
  )
  pathlib.Path(path).write_bytes(parquet.to_bytes(ledger.Ledger([one])))
  return f'--lengths={path}'


def test_lengths_may_be_those_of_a_run(call):
  given = SEVEN, V5P, '--stage=math_8k', '--json=p.json'
  status, said = call(*given, ledger_of('math_8k', 100))
  assert status == 0 and 'from l.parquet' in said
  (stage,) = json.loads(pathlib.Path('p.json').read_text())['stages']
  drawn = stage['tokens_per_second_a_chip'] * 64 * stage['step_seconds']
  assert drawn == pytest.approx(128 * 8 * 100)


@pytest.mark.parametrize(
  ('stage', 'longest', 'words'),
  [
    ('math_9k', 100, "no record is of the stages 'math_8k'"),
    ('math_8k', 8193, 'has 8193 tokens, but rollout.max_tokens=8192'),
  ],
)
def test_lengths_of_another_run_are_one_line(stage, longest, words, call):
  given = ledger_of(stage, longest)
  status, said = call(SEVEN, V5P, '--stage=math_8k', given)
  assert status == 1 and said.startswith('error: --lengths=l.parquet: ')
  assert words in said
  pathlib.Path('l.parquet').write_text('no table')
  status, said = call(SEVEN, V5P, '--stage=math_8k', given)
  assert status == 1 and said.startswith('error: --lengths=l.parquet: ')
  assert call(SEVEN, V5P, '--lengths=none.parquet')[0] == 1


BAD = {
  '--config: missing': (V5P,),
  '--hardware: missing': (SEVEN,),
  'the kinds are cpu, v5e': (SEVEN, '--hardware=v9:2x2'),
  'v5p has no topology 4x4x5': (SEVEN, '--hardware=v5p:4x4x5'),
  "no stage 'math_9k'; there are: math_8k": (SEVEN, V5P, '--stage=math_9k'),
  "no stage ''": (SEVEN, V5P, '--stage=math_8k,'),
  "'8192': expected MOST:MEAN": (SEVEN, V5P, '--mean_tokens=8192'),
  "'a:4500': expected MOST:MEAN": (SEVEN, V5P, '--mean_tokens=a:4500'),
  "'8192:0': expected": (SEVEN, V5P, '--mean_tokens=8192:0'),
  'is not below it': (SEVEN, V5P, '--mean_tokens=8192:9000'),
  "'code.jsonl': expected PATH:NUMBER": (SEVEN, V5P, '--questions=code.jsonl'),
  '--kept=0: expected at least 0.001': (SEVEN, V5P, '--kept=0'),
  '--bandwidth=1e-300: expected 0, or at least 0.001': (
    *(SEVEN, V5P, '--bandwidth=1e-300'),
  ),
  # Sums of these are no numbers of JSON.
  'host_seconds': (SEVEN, V5P, '--host_seconds=1e308'),
  'hop_seconds': (SEVEN, V5P, '--hop_seconds=1e308'),
  'checkpoint_bandwidth': (SEVEN, V5P, '--checkpoint_bandwidth=1e-320'),
  'links': (SEVEN, V5P, '--links=1.5'),
  'expected a number': (SEVEN, V5P, '--spread=inf'),
  'price': (SEVEN, V5P, '--price=inf'),
  'Did you mean: hardware': (SEVEN, '--hardwar=v5p:4x4x4'),
  'no such field': (SEVEN, V5P, '--config.speed=1'),
  'No such file': ('--config=none.py', V5P),
}


@pytest.mark.parametrize('said', BAD)
def test_a_bad_flag_is_one_line_and_status_2(said, call):
  status, words = call(*BAD[said])
  assert status == 2 and said in words
  assert words.startswith('error: ') and words.count('\n') == 1


BAD_CONFIGS = {
  "config.model='": (SEVEN, V5P, '--config.model='),
  'qwen2-7b': (SEVEN, V5P, '--model=qwen-7z'),
  'give at least 1': (SEVEN, V5P, '--config.rollout.prompts=0'),
  '--calibrate to measure': (
    *(f'--config={ROOT}/configs/quickstart.py', '--hardware=cpu:2'),
  ),
  'is not here': (SEVEN, V5P, '--calibrate'),
  "stage 'math_8k' does not fit cpu:4": (
    *(SEVEN, '--hardware=cpu:4', '--calibrate', '--stage=math_8k'),
  ),
}


@pytest.mark.parametrize('said', BAD_CONFIGS)
def test_what_cannot_be_planned_is_one_line_and_status_1(said, call):
  status, words = call(*BAD_CONFIGS[said])
  assert status == 1 and said in words and words.startswith('error: ')


def run_configs():
  kinds = 'eval_', 'curate_', 'base'
  return [
    path.stem
    for path in sorted((ROOT / 'configs').glob('*.py'))
    if not path.stem.startswith(kinds)
  ]


SWEPT = ('h100:8', 'v5p:2x2x1', 'v5e:2x2', 'tpu7x:2x2x1', 'v6e:2x4')


@pytest.mark.parametrize(
  ('name', 'hardware'),
  [
    # Those of large models are planned above.
    pytest.param(
      name,
      text,
      marks=()
      if i == j % 2 and not name.startswith('acereason')
      else pytest.mark.nightly,
    )
    for j, name in enumerate(run_configs())
    for i, text in enumerate(SWEPT)
  ],
)
def test_every_config_can_be_planned(name, hardware, call):
  """Whether it fits or not: never a traceback."""
  # This one names the folder of a model that a user has trained.
  model = ('--model=qwen2-7b',) if name == 'acereason_1_1_7b' else ()
  status, said = call(
    f'--config={ROOT}/configs/{name}.py', f'--hardware={hardware}', *model
  )
  fits = 'It fits' in said
  assert status == (0 if fits else 1), said
  assert fits or 'It does not fit: ' in said


def test_too_small_for_the_train_state(call):
  """Nothing but more devices helps: 16 bytes x 7.6 billion on 4 x 17 GB."""
  status, said = call(SEVEN, '--hardware=v5e:2x2', '--stage=math_8k')
  assert status == 1
  assert 'It does not fit: math_8k.' in said


def test_as_a_command(tmp_path):
  """A process of its own, told to use a TPU that is not there."""
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'acereason_jax.plan', SEVEN, V5P),
      *('--stage=math_8k', '--model=qwen2-7b'),
    ],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=tiny.environment(tmp_path) | dict(JAX_PLATFORMS='tpu'),
  )
  assert done.returncode == 0 and done.stderr == ''
  assert 'It fits' in done.stdout


def test_the_flags_of_assumptions_have_the_defaults_of_the_values():
  known = assumptions.command_line.Flags()
  assumptions.define(known)
  args = assumptions.command_line.parse(known, ['x'], '')
  assert assumptions.read(args) == values.Assumed()


OPERATORS = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
  ast.Pow: operator.pow,
}


def by_hand():
  """The flags of the command in docs/plan.md; (name, formula, result)s."""
  text = (ROOT / 'docs' / 'plan.md').read_text()
  [section] = re.findall('(?ms)^## One stage by hand$(.*?)^## ', text)
  line = r'^    ([a-z/]+) +([-+*/(). 0-9e]+) = ([0-9.]+)$'
  command = r'^    python -m acereason_jax\.plan (.*) --json=math_8k\.json$'
  [flags] = re.findall(command, section, re.M)
  return flags.split(), re.findall(line, section, re.M)


def computed(node):
  """The number that a formula of four operators stands for."""
  match node:
    case ast.Constant(value):
      return value
    case ast.UnaryOp(ast.USub(), of):
      return -computed(of)
    case ast.BinOp(left, sign, right):
      return OPERATORS[type(sign)](computed(left), computed(right))


def of_stage(name, stage):
  """The number of a plan that a line of the page is about."""
  parts = stage['decode']['parts']
  other = {
    'step': 'step_seconds',
    'hours': 'hours',
    'occupancy': 'occupancy',
    'tok/s': 'tokens_per_second_a_chip',
    'mfu': 'mfu',
  }
  if name in other:
    return stage[other[name]]
  return stage['seconds'][name] if name in stage['seconds'] else parts[name]


def test_the_page_works_a_stage_out_by_hand(call):
  """Its arithmetic is right, and its results are the command's."""
  command, lines = by_hand()
  assert len(lines) >= 15
  assert command[:2] == ['--config=configs/acereason_7b.py', V5P]
  status, said = call(SEVEN, *command[1:], '--json=plan.json')
  assert status == 0, said
  [stage] = json.loads(pathlib.Path('plan.json').read_text())['stages']
  for name, formula, result in lines:
    told = pytest.approx(float(result), rel=5e-3)
    assert computed(ast.parse(formula, mode='eval').body) == told, name
    assert of_stage(name, stage) == told, name
  told = {name for name, *_ in lines} - {'step'}
  phases = {name for name, value in stage['seconds'].items() if value > 0.01}
  assert phases <= told


def test_compiled_programs_are_told_and_decide(call, monkeypatch):
  """--compile, with a compiler that answers by hand."""
  programs = [
    compiled.Program(
      'decode',
      seconds=3.0,
      arguments=int(9e9),
      outputs=int(8e9),
      aliased=int(8e9),
      temporaries=int(1e9),
      donated=int(8e9),
      beside=int(5e9),
      room=int(16e9),
      sends=(compiled.Sends('all-reduce', 57, 2e9),),
      slices=13e9,
      sorted=151936,
      spills={'kernel': 7},
    ),
    compiled.Program('add', problem='RESOURCE_EXHAUSTED'),
  ]
  monkeypatch.setattr(
    plan.compiled, 'compiled', lambda *given: iter(programs[: call.count])
  )
  quick = f'--config={ROOT}/configs/quickstart.py', '--hardware=v5e:2x2'
  call.count = 1
  status, said = call(*quick, '--compile', '--json=p.json')
  assert status == 0, said
  [stage] = json.loads(pathlib.Path('p.json').read_text())['stages']
  [decode] = stage['compiled']
  # 9 of arguments, 1 of temporaries, 5 beside; outputs are arguments.
  assert decode['need'] == 15e9 and decode['sent'] == 2e9 and decode['fits']
  text = ' '.join(said.split())
  assert 'decode 15.00 16.00 1.00 2.00 0.00 7 3 s' in text
  assert 'decode: copies 13.0 GB of stacked weights a call' in text
  assert 'decode: sorts rows of 151,936 numbers' in text
  assert 'all-reduce: 57 a call, 2 GB sent' in text
  call.count = 2
  status, said = call(*quick, '--compile', '--json=p.json')
  assert status == 1 and 'add: does not compile: RESOURCE_EXHAUSTED' in said
  assert json.loads(pathlib.Path('p.json').read_text())['fits'] is False


def test_what_cannot_be_built_is_not_compiled(call, monkeypatch):
  """The plan is written all the same."""
  monkeypatch.setattr(plan.compiled, 'compiled', None)
  quick = f'--config={ROOT}/configs/quickstart.py', '--hardware=v5e:2x2'
  status, said = call(
    *quick, '--config.mesh.tensor=2', '--compile', '--json=p.json'
  )
  assert status == 1 and 'not compiled, as it cannot be built' in said
  assert json.loads(pathlib.Path('p.json').read_text())['fits'] is False


def test_proposals_are_told():
  """What to set, as flags."""
  fields = {'config.engine.slots': 1024, 'config.rollout_mesh.tensor': 4}
  found = search.Found(values.Knob(fields, 'why'), (hand(), hand('two')))
  hardware = machines.hardware('v5p:4x4x4')
  told = search_table.records([found], hardware, values.Assumed())
  json.dumps(told, allow_nan=False)
  text = ' '.join(' '.join(search_table.told(told)).split())
  assert '2.00 hours: --config.engine.slots=1024' in text
  assert '--config.rollout_mesh.tensor=4' in text
  assert 'nothing fits' in ' '.join(search_table.told([]))
