"""Curves, config, prompts and tables of a report, worked out by hand."""

import json
import math

import pytest
import reporting_rows
import reports
from reporting_rows import row

from acereason_jax.config import base, stages
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum import outcomes
from acereason_jax.reporting import (
  config,
  curves,
  facts,
  files,
  fit,
  looks,
  made,
  names,
  prompts,
  read,
  recipe,
  static,
  tables,
  tallies,
  values,
  waste,
)

EVERY = range(1 << 40)


def line(number, step, time, **seconds):
  """A line of a clock; the run begins at 1,000 s."""
  text = json.dumps(dict(start=number, step=step, time=time, seconds=seconds))
  (found,) = waste.read_clock(text)
  return found


def steps_of(count, **every):
  return [dict(step=i + 1, stage=0.0, **every) for i in range(count)]


def test_hours_count_what_restarts_lost():
  clock = [
    line(0, 0, 1010.0, start=10.0),
    line(0, 1, 1100.0, sample=90.0),
    line(0, 2, 1200.0, sample=100.0),
    # Killed; it went on after step 1, an hour later.
    line(1, 1, 4800.0, start=50.0),
    line(1, 2, 4900.0, sample=100.0),
    line(1, 2, 4950.0, sample=50.0),
    line(1, 3, 5000.0, sample=50.0),
  ]
  got = curves.hours_of(steps_of(3, seconds_step=7.0), clock)
  assert got == pytest.approx([100 / 3600, 3900 / 3600, 4000 / 3600])


def test_the_first_line_of_a_start_may_be_the_end_of_a_step():
  clock = [
    line(0, 1, 1100.0, start=10.0, sample=90.0),
    line(1, 2, 1300.0, start=50.0, sample=50.0),
  ]
  got = curves.hours_of(steps_of(2), clock)
  assert got == pytest.approx([100 / 3600, 300 / 3600])


def test_hours_without_a_clock_are_the_seconds_of_steps():
  metrics = [
    dict(step=1, seconds_step=36.0),
    dict(step=2, seconds_step=None),
    dict(step=5, seconds_step=72.0),
  ]
  assert curves.hours_of(metrics, ()) == pytest.approx([0.01, 0.01, 0.03])


def test_hours_never_fall_though_the_host_was_set_back():
  clock = [line(0, s, t, sample=1.0) for s, t in ((1, 2e6), (2, 1e6), (3, 3e6))]
  got = curves.hours_of(steps_of(3), clock)
  assert got == sorted(got)


def test_curves_of_some_steps():
  metrics = [
    dict(step=s, stage=float(s > 2), reward=s / 10, response_tokens=10.0)
    for s in range(1, 6)
  ]
  metrics[3]['reward'] = None
  metrics[4]['heldout/main'] = 0.5
  starts = [files.Begun(s, '', '', '') for s in (0, 0, 4, 3)]
  got = curves.curves('r', metrics, ['a', 'b'], starts, (), range(2, 6))
  assert got.steps == [2, 3, 4, 5] and got.tokens == [20.0, 30.0, 40.0, 50.0]
  assert got.bands == [values.Band('a', 2, 2), values.Band('b', 3, 5)]
  # Not the first start; the second began at step 0, which is not shown.
  assert got.restarts == [3, 4]
  series = {s.name: s.values for s in got.series}
  assert series['reward'] == [0.2, 0.3, None, 0.5]
  assert series['heldout/main'] == [None, None, None, 0.5]
  assert 'stage' not in series and 'step' not in series


def test_a_stage_that_the_config_lacks_is_a_number():
  metrics = [dict(step=1, stage=3.0), dict(step=2), dict(step=3, stage=-1.0)]
  got = [b.stage for b in curves.bands(metrics, ['a'])]
  assert got == ['stage 3', 'unknown', 'stage -1']


def test_the_order_of_metrics_and_their_words():
  known = {
    *('zz_own', 'entropy', 'math/reward', 'reward', 'heldout_error/math'),
    *('heldout/math', 'step', 'stage', 'code/reward'),
  }
  got = names.ordered(known)
  assert got[:5] == [
    *('reward', 'code/reward', 'math/reward', 'heldout/math'),
    'heldout_error/math',
  ]
  assert got[-1] == 'zz_own' and len(got) == len(known) - 2
  assert names.named('zz_own') == ('zz_own', '', names.MORE)
  assert names.named('math/reward').title == 'Mean reward of a batch, math'
  assert names.named('heldout/main').title == 'Held-out pass rate'


def test_metrics_of_torn_and_foreign_lines():
  lines = [
    '{"step": 2, "reward": 0.5, "name": "x", "flag": true}',
    '{"step": 1, "reward": null, "big": 1e999, "huge": 1%s}' % ('0' * 400),
    '{"step": 2, "reward": 0.6}',
    '{"step": true}',
    '{"step": -1}',
    '{"step": 1.0}',
    '[1]',
    '[' * 100_000,
    '{"step": 3, "rew',
  ]
  got = files.metrics('\n'.join(lines))
  assert got == [
    dict(step=1, reward=None, big=None, huge=None),
    dict(step=2, reward=0.6),
  ]


# --- the config ---


def by_name(found):
  return {field.name: field for field in found}


def test_fields_beside_the_recipe_the_defaults_and_others():
  default = recipe.default()
  mine = json.loads(json.dumps(default))
  mine['steps'] = 7
  mine['stages'] = [
    dict(name='a'),
    dict(name='b', steps=3, rollout=dict(max_tokens=16384, refill=0)),
  ]
  mine['objective']['loss'] = dict(fn='x:y', low=0.2)
  file = json.loads(json.dumps(default)) | dict(steps=9)
  other = json.loads(json.dumps(mine)) | dict(seed=1)
  got = by_name(config.fields(mine, file, default, dict(other=other)))
  assert got['steps'] == values.Field(
    'steps', '7', '9', '1000', dict(b='3'), {}
  )
  assert got['rollout.max_tokens'].stages == dict(b='16384')
  assert not got['rollout.refill'].stages
  assert got['seed'].others == dict(other='1')
  assert got['stages'].value == '["a", "b"]'
  assert got['objective.loss.low'].default is None
  assert (
    got['objective.loss.fn'].recipe == '"acereason_jax.rl.losses:on_policy"'
  )


def test_fields_that_only_a_stage_or_the_recipe_has():
  mine = dict(
    rollout=dict(temperature=1.0),
    stages=[
      dict(name='a', rollout=dict(temperature=dict(fn='f:g', target=2.0)))
    ],
  )
  file = dict(optim=dict(more=3))
  got = by_name(config.fields(mine, file, {}, {}))
  assert got['rollout.temperature.target'].value == ''
  assert got['rollout.temperature.target'].stages == dict(a='2.0')
  assert got['optim.more'][:3] == ('optim.more', '', '3')


def test_every_field_of_a_real_config_is_there():
  """Stages by what the config's own code makes of them."""
  c = recipe.read('acereason_7b', recipe.folders())[0]
  got = by_name(config.fields(c, c, recipe.default(), {}))
  whole = base.beside(
    str(recipe.folders()[-1] / 'x'), 'acereason_7b'
  ).get_config()
  for name, own in stages.every_stage(whole).items():
    flat = config.flat(json.loads(own.to_json()))
    for path in ('rollout.max_tokens', 'steps', 'microbatch.columns'):
      field = got[path]
      assert field.stages.get(name, field.value) == flat[path]
  # What only a stage has is in neither.
  assert all((f.recipe or '') == f.value for f in got.values())


@pytest.mark.parametrize('bad', [None, 3, [], {}, dict(stages=[3]), 'x'])
def test_a_config_of_another_shape(bad):
  config.fields(bad, bad, {}, dict(other=bad))


def test_a_deep_or_wide_config_is_bounded():
  deep = {}
  for _ in range(500):
    deep = dict(a=deep)
  assert len(config.fields(deep, None, {}, {})) == 1
  wide = {str(i): 'x' * 9000 for i in range(9000)}
  got = config.fields(wide, None, {}, {})
  assert len(got) == 5000 and max(len(f.value) for f in got) == 2000


def test_the_recipes_file(tmp_path):
  (tmp_path / 'own.py').write_text(
    'from acereason_jax.config import base\n'
    'def get_config(order=""):\n'
    '  c = base.get_config()\n'
    '  c.model = "own" + order\n'
    '  return c\n'
  )
  (tmp_path / 'broken.py').write_text('import nothing_there\n')
  (tmp_path / 'other.py').write_text('x = 1\n')
  where = [tmp_path / 'absent', tmp_path]
  assert recipe.read('own', where)[0]['model'] == 'own'
  assert recipe.read('own-short', where)[0]['model'] == 'ownshort'
  for name in ('broken', 'other', 'other-x'):
    found, note = recipe.read(name, where)
    assert found is None and 'was not read' in note
  for name in ('', 'absent', '../own', 'own.py', '/etc/x', 'a' * 1000, 'o\0n'):
    assert recipe.read(name, where) == (None, '')


def test_the_name_of_the_recipe():
  starts = [files.Begun(0, n, '', '') for n in ('first', 'second', '')]
  assert recipe.name_of('runs/x/', starts) == 'second'
  assert recipe.name_of('runs/x/', ()) == 'x'
  assert recipe.name_of('gs://b/runs/y', ()) == 'y'


# --- prompts ---


def record(step, prompt, right, judged, failed=0, domain='math'):
  return ledger_lib.Record(
    *('train', 'main', step, step, domain, prompt),
    right=right,
    wrong=judged - right,
    unparsed=0,
    timeout=failed,
    error=0,
    truncated=0,
    tokens=10,
    longest=5,
    solved=right,
  )


HISTORY = dict(
  became=[(1, 0, 8), (4, 2, 8)],
  lost=[(1, 3, 8), (4, 0, 8)],
  never=[(1, 0, 8), (3, 0, 8)],
  always=[(2, 8, 8)],
  mixed=[(2, 3, 8), (5, 4, 8)],
  failed=[(2, 0, 0, 8), (3, 1, 4, 4)],
)


def history():
  every = [
    record(*rest[:1], p, *rest[1:]) for p, h in HISTORY.items() for rest in h
  ]
  return ledger_lib.Ledger(sorted(every, key=lambda r: r.step))


def test_kinds_of_prompts():
  got = prompts.prompts(history())
  assert {p.prompt: p.kind for p in got.prompts} == dict(
    became='became solvable',
    lost='lost',
    never='never solved',
    always='always solved',
    mixed='mixed',
    failed='judge failed',
  )
  assert got.counts == dict.fromkeys(prompts.KINDS, 1)
  rates = {p.prompt: p.rates for p in got.prompts}
  assert rates['became'] == [(1, 0, 8), (4, 2, 8)]
  assert rates['failed'] == [(2, 0, 0), (3, 1, 4)]
  assert {p.domain for p in got.prompts} == {'math'}


@pytest.mark.parametrize('first, last', [(1, 5), (1, 2), (2, 4), (4, 9)])
def test_prompts_of_some_steps_are_those_of_their_records(first, last):
  steps = range(first, last + 1)
  got = prompts.prompts(ledger_lib.within(history(), steps))
  alone = prompts.prompts(
    ledger_lib.Ledger(r for r in history() if r.step in steps)
  )
  assert sorted(got.prompts) == sorted(alone.prompts) != []
  assert got[1:] == alone[1:]


def test_prompts_of_no_step():
  got = prompts.prompts(ledger_lib.within(history(), range(6, 9)))
  assert got == values.Prompts([], dict.fromkeys(prompts.KINDS, 0), None, '')


def test_luck_is_that_of_the_ledgers_command():
  found = history()
  became, expected, twice = prompts.luck(found)
  assert became == len(outcomes.solvable(found)) == 1
  # Four prompts were judged twice: of the two right ones of `became` among 16
  # both are later by luck with 8 * 7 / (16 * 15), and so on.
  choose = math.comb
  by_hand = sum(
    choose(later, right) / choose(first + later, right)
    for first, later, right in ((8, 8, 2), (8, 8, 3), (8, 8, 7))
  )
  assert expected == pytest.approx(by_hand) and twice == 4


def test_prompts_of_an_older_checkpoint_are_said_to_be(tmp_path):
  def notes(last):
    reporting_rows.write_metrics(tmp_path, [dict(step=1), dict(step=last)])
    got = read.report(str(tmp_path), ledger=history(), samples=fit.NO_SAMPLES)
    return [note for note in got.notes if note.startswith('Prompts are')]

  assert not notes(5)
  (note,) = notes(7)
  assert 'until step 5' in note and 'to step 7' in note


def test_a_long_list_says_what_it_leaves_out(monkeypatch):
  monkeypatch.setattr(prompts, '_LISTED', 3)
  monkeypatch.setattr(prompts, '_TIMES', 2)
  every = [
    record(step, f'p{i}', 0, 4) for i in range(5) for step in range(1, i + 2)
  ]
  got = prompts.prompts(ledger_lib.Ledger(sorted(every, key=lambda r: r.step)))
  assert [p.prompt for p in got.prompts] == ['p4', 'p3', 'p2']
  assert got.prompts[0].rates == [(4, 0, 4), (5, 0, 4)]
  assert got.counts['never solved'] == 5
  assert '3 of 5 never solved' in got.note and 'more often' in got.note


def test_an_empty_ledger():
  got = prompts.prompts(ledger_lib.Ledger())
  assert got.prompts == [] and got.luck is None


# --- tables ---


def test_a_plan_beside_the_run():
  seconds = dict(prefill=1.0, decode=9.0, update=5.0, judges=0.0, host=3.0)
  plan = dict(
    hardware='v5p:4x4x4',
    stages=[
      dict(name='a', seconds=seconds),
      dict(name='b', seconds=None),
      dict(name='never', seconds=seconds),
      3,
    ],
  )
  metrics = [
    dict(step=s, seconds_sample=12.0 + s, seconds_judge=1.0) for s in (1, 2, 3)
  ]
  bands = [values.Band('a', 1, 2), values.Band('b', 3, 3)]
  got = tables.plan(plan, metrics, bands)
  assert got.rows == [
    ['a', 'seconds_sample', '10.00', '13.50', '1.35'],
    ['a', 'seconds_judge', '0.00', '1.00', '-'],
    ['a', 'seconds_update', '5.00', '-', '-'],
  ]
  assert 'v5p:4x4x4' in got.note
  for other in (None, [], dict(stages=3), dict(stages=[dict(name='x')])):
    assert tables.plan(other, metrics, bands) is None


def test_tables_of_verdicts_and_details(tmp_path):
  found = [
    row(index=0, length=10),
    row(index=1, status='wrong', detail="exact: '3'", trained=False, length=30),
    row(index=2, status='wrong', detail="exact: '4'", stop='length', length=80),
    row(index=3, status='unparsed', detail='', length=0),
  ]
  reporting_rows.write(tmp_path, found, 1)
  tally = tallies.tally(str(tmp_path), EVERY)
  assert tables.verdicts(tally).rows == [
    [
      *('train', 'math_8k', 'math', '4', '25.0%', '50.0%', '25.0%', '0.0%'),
      *('0.0%', '25.0%', '75.0%', '30'),
    ]
  ]
  assert len(tables.verdicts(tally).head) == len(tables.verdicts(tally).rows[0])
  assert tables.details(tally).rows == [
    ['train', 'math', 'wrong', "exact: '..'", '2', '1 to 1', 'sum-1'],
    ['train', 'math', 'unparsed', '(none)', '1', '1 to 1', 'sum-1'],
  ]


def test_the_table_of_looks():
  metrics = [
    {'step': 3, 'heldout/main': 0.5, 'heldout_error/main': 0.02},
    {'step': 4, 'reward': 1.0},
    {'step': 6, 'heldout/main': 0.25, 'heldout_failed/main': 2.0},
  ]
  assert tables.looks(metrics).rows == [
    ['6', 'main', '25.0', '-', '2'],
    ['3', 'main', '50.0', '+-2.0', '0'],
  ]


@pytest.mark.parametrize(
  'look',
  [
    {},
    {'heldout/main': None, 'heldout_error/main': 0.1},
    {'heldout/main': math.inf, 'heldout_failed/main': 8},
    {'heldout/main': True},
    {'heldout': 0.5},
    [],
  ],
)
def test_a_look_without_a_rate_is_none_of_the_summary(look):
  metrics = [{'step': 5, 'reward': 0.5}]
  stage = {'stage': ''} | look if isinstance(look, dict) else look
  summary = {'heldout': [stage]}
  assert looks.before(summary, tallies.Tally(), metrics) == []
  # Its rows have one: 2 of 5 are right, and 3 were not judged.
  cell = lambda rollouts: tallies.Cell(rollouts, 0, 0, 0, 0, 0)
  key = lambda status: ('before', 'main', 'math', status)
  cells = {key('right'): cell(2), key('wrong'): cell(3), key('error'): cell(3)}
  assert looks.before(summary, tallies.Tally(8, cells), metrics) == [
    {'step': 4, 'heldout/math': 0.4}
  ]


@pytest.mark.parametrize(
  ('metrics', 'want'),
  [
    ([{'step': 3, 'heldout/main': 0.25}], 'first 25.0% (step 3)'),
    (
      [
        {'step': 3, 'heldout/main': 0.25, 'heldout_error/main': 0.02},
        {'step': 6, 'heldout/main': 0.5, 'heldout_error/main': 0.03},
        {'step': 9, 'heldout/main': 0.375},
      ],
      'first 25.0% +-2.0 (step 3); best 50.0% +-3.0 (step 6); '
      'last 37.5% (step 9)',
    ),
  ],
)
def test_the_head_has_the_first_best_and_last_look(metrics, want):
  found = facts.facts(
    metrics,
    curves.curves('run', metrics, (), (), (), range(99)),
    None,
    '',
    None,
    (),
    None,
    tallies.Tally(),
  )
  assert dict(found)['held-out'] == want


@pytest.mark.parametrize(
  ('ended', 'lives', 'want'),
  [
    ('', True, 'going on'),
    ('', False, 'died (no process holds its lock); the same command resumes'),
    ('', None, 'going on, or died'),
    ('done', None, 'over'),
    ('asked', None, 'stopped by a signal'),
    ('told', None, 'stopped with an error'),
  ],
)
def test_the_state_of_a_run(ended, lives, want):
  start = files.Begun(0, '', ended, '')
  assert facts._state([start], None, 7, lives).startswith(want)
  # The start that wrote the summary has not ended yet.
  assert facts._state([start], dict(steps=7), 7, lives) == 'over'


MADE = files.Made('0.1.0', 'abc', '3.11.7', '0.10.2', '0.10.2', 'TPU v5', 32)
NEWER = MADE._replace(commit='def+', jaxlib='0.10.3', devices=64)


def made_at(*pairs):
  return [files.Begun(step, '', '', '', made) for step, made in pairs]


def test_what_made_a_run_by_hand():
  same = dict(made.facts(made_at((0, MADE), (0, MADE), (3, MADE))))
  one = 'acereason_jax 0.1.0 (abc), jax 0.10.2, Python 3.11.7'
  assert same == {'run by': one, 'devices': '32 x TPU v5'}
  both = dict(made.facts(made_at((0, MADE), (1_500, NEWER), (1_600, NEWER))))
  two = 'acereason_jax 0.1.0 (def+), jax 0.10.2, jaxlib 0.10.3, Python 3.11.7'
  assert both == {
    'run by': f'{one}; after step 1,500 {two}',
    'devices': '32 x TPU v5; after step 1,500 64 x TPU v5',
  }
  often = made_at(*((i, (MADE, NEWER)[i % 2]) for i in range(8)))
  assert dict(made.facts(often))['run by'] == (
    f'{one}; 6 changes; after step 7 {two}'
  )


def test_an_older_version_recorded_nothing():
  nothing = {'run by': 'not recorded', 'devices': 'not recorded'}
  assert dict(made.facts(made_at((0, files.Made())))) == nothing
  assert dict(made.facts(())) == nothing
  later = dict(made.facts(made_at((0, files.Made()), (4, MADE))))
  assert later['devices'] == 'not recorded; after step 4 32 x TPU v5'
  bare = MADE._replace(commit='', jaxlib='', jax='', python='')
  assert made.programs(bare) == 'acereason_jax 0.1.0'


def test_runs_that_others_made_are_hard_to_compare():
  tell = lambda a, b: [*made.differences(made_at((0, a)), made_at((0, b)), 'x')]
  assert tell(MADE, MADE) == []
  assert tell(MADE, files.Made()) == tell(files.Made(), MADE) == []
  assert [*made.differences((), made_at((0, MADE)), 'x')] == []
  programs, devices = tell(MADE, NEWER)
  assert devices == 'x was run on 64 x TPU v5, this one on 32 x TPU v5.'
  assert programs.startswith('x was run by acereason_jax 0.1.0 (def+), ')
  assert 'this one by acereason_jax 0.1.0 (abc), ' in programs


def test_what_a_stranger_says_of_its_versions(tmp_path):
  said = [
    *(None, [], 'x', {}, dict(version=[]), dict(version='v' * 10**5)),
    *(dict(devices=n) for n in (True, -1, 0, 1.5, '8', 10**300)),
  ]
  lines = [json.dumps(dict(step=1, made=each)) for each in said]
  lines.append(json.dumps(dict(step=10**300, made=dict(version='<b>'))))
  path = tmp_path / files.STARTS
  path.write_text('\n'.join(lines))
  *found, last = files.starts(str(tmp_path))
  assert len(found) == len(said) and {each.made for each in found} == {
    files.Made()
  }
  assert last.made == files.Made('<b>')
  text = static.parts(
    reports.report(runs=1)._replace(facts=made.facts([*found, last]))
  )['facts']
  assert '&lt;b&gt;' in text and '<b>' not in text
  path.write_bytes(b' ' * (files._MOST_STARTS_BYTES + 1))
  notes = []
  assert read._starts(str(tmp_path), notes) == [] and 'more than' in notes[0]
