"""The command `report` on real tiny runs, and on folders that are damaged."""

import collections
import json
import shutil
import signal

import object_store
import pytest
import reporting_rows
import tiny
from runs import Command, ledger_of

from acereason_jax import __version__, report
from acereason_jax.console import exits
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum import outcomes
from acereason_jax.data import archive
from acereason_jax.reporting import fit, living, read

pytestmark = pytest.mark.usefixtures('compiled_once')
STEPS = 10


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  path = tmp_path_factory.mktemp('tiny')
  tiny.write(path)
  return path


@pytest.fixture(scope='module')
def run(files, compiled):
  """A run that was stopped after 4 steps and went on to 10."""
  workdir = files / 'run'
  for steps in (4, STEPS):
    flag = f'--config.steps={steps}'
    Command(files, compiled, workdir, flag).ends(0)
  return workdir


@pytest.fixture
def copy(run, tmp_path):
  """Another folder of the same run."""
  return shutil.copytree(run, tmp_path / 'copy')


def values_of(folder, **more):
  ledger, note = report.load_ledger(str(folder))
  assert not note
  return read.report(str(folder), ledger=ledger, samples=fit.NO_SAMPLES, **more)


def test_a_report_is_a_recount_of_the_runs_files(run):
  got = values_of(run)
  lines = (run / 'metrics.jsonl').read_text().splitlines()
  records = [json.loads(line) for line in lines]
  # The look before the first step is in the summary only.
  summary = json.loads((run / 'summary.json').read_text())
  before = summary['heldout'][0]
  (drawn,) = got.curves
  assert drawn.steps == list(range(STEPS + 1))
  every = {series.name: series.values for series in drawn.series}
  for name, found in every.items():
    assert found == [before.get(name), *(r.get(name) for r in records)]
  assert every['heldout/main'][0] == summary['heldout_before']
  assert every.keys() == {k for r in records for k in r} - {'step', 'stage'}
  tokens = [record['response_tokens'] for record in records]
  assert drawn.tokens[-1] == sum(tokens)
  assert drawn.hours == sorted(drawn.hours) and drawn.hours[:2] > [0.0, 0.0]
  assert [tuple(b) for b in drawn.bands] == [('main', 1, STEPS)]
  assert drawn.restarts == [4]
  facts = dict(got.facts)
  assert facts['recipe'] == 'tiny_config' and facts['starts'] == '2'
  assert facts['state'] == 'over' and facts['reached'] == f'step {STEPS}'
  assert f'(step {STEPS})' in facts['held-out']
  (looks,) = (t for t in got.tables if t.title == 'Held-out looks')
  asked = [r['step'] for r in records if 'heldout/main' in r]
  assert [int(row[0]) for row in looks.rows] == [*reversed(asked), 0]
  assert not got.notes


def test_rows_metrics_and_tables_agree(run):
  """The shares of verdicts in rows are those that each step measured."""
  rows = []
  for path in sorted((run / archive.FOLDER).glob('*.parquet')):
    rows += archive.read_rows(path.read_bytes()).to_pylist()
  got = values_of(run)
  assert dict(got.facts)['rollouts'] == f'{len(rows):,}'
  (series,) = (s for s in got.curves[0].series if s.name == 'pass_rate')
  for step, rate in list(zip(got.curves[0].steps, series.values))[1:]:
    mine = [r for r in rows if r['step'] == step and r['phase'] == 'train']
    right = sum(r['status'] == 'right' for r in mine)
    assert rate == pytest.approx(right / len(mine))
  (table,) = (t for t in got.tables if t.title == 'Verdicts')
  phases = collections.Counter(r['phase'] for r in rows)
  assert {row[0]: row[3] for row in table.rows} == {
    phase: f'{count:,}' for phase, count in phases.items()
  }


def test_prompts_are_those_of_the_ledger(run):
  found = ledger_of(run, STEPS)
  got = values_of(run).prompts
  became, lost = outcomes.solvable(found), outcomes.lost(found)
  for prompt in got.prompts:
    mine = [r for r in found if r.prompt == prompt.prompt]
    assert prompt.rates == [(r.step, r.right, r.judged) for r in mine]
    assert (prompt.kind == 'became solvable') == (prompt.prompt in became)
    assert (prompt.kind == 'lost') == (prompt.prompt in lost)
  assert sum(got.counts.values()) == len({r.prompt for r in found})


def test_the_wall_time_sums_up(run):
  def check(node):
    # The peak of this CPU is not known.
    assert not node.figure
    if node.parts:
      parts = sum(part.milliseconds for part in node.parts)
      assert parts == node.milliseconds
      for part in node.parts:
        check(part)

  root = values_of(run).waste.root
  check(root)
  hours = values_of(run).curves[0].hours[-1]
  assert 0 < hours * 3.6e6 <= root.milliseconds + 1


def test_slots_are_those_of_the_newest_step(run):
  got = values_of(run).slots
  lines = (run / 'timeline.jsonl').read_text().splitlines()
  assert got.step == STEPS and len(got.stays) == len(lines) - 1
  assert dict(got.facts)['step'] == str(STEPS)


def page(argv, capsys):
  status = report.main(['report', *map(str, argv)])
  return status, capsys.readouterr().out


def test_the_command_writes_a_page(copy, capsys):
  status, said = page([copy], capsys)
  assert status == 0 and f'{copy}/report.html' in said
  text = (copy / 'report.html').read_text()
  assert (
    text.startswith('<!DOCTYPE html>') and 'Content-Security-Policy' in text
  )
  # As many rollouts as the run has texts of.
  texts = [
    text
    for path in (copy / archive.FOLDER / archive.TEXTS).glob('*.parquet')
    for text in archive.read_texts(path.read_bytes())
  ]
  assert f'{len(texts):,} of {len(texts):,} rollouts' in text


def test_a_page_is_as_large_as_it_may_be(copy, tmp_path, capsys):
  bare = values_of(copy)
  least = len(fit.page_lib.to_html(bare).encode())
  out = tmp_path / 'small.html'
  small = (least + 3000) / 1e6
  page([copy, f'--out={out}', f'--max_mb={small}'], capsys)
  assert least <= out.stat().st_size <= small * 1e6
  with pytest.raises(SystemExit, match='MB already'):
    page([copy, f'--out={out}', '--max_mb=0.1'], capsys)


def test_some_steps_only(run):
  got = values_of(run, steps=range(3, 6))
  assert got.curves[0].steps == [3, 4, 5]
  rows = archive.read_rows(
    (run / archive.FOLDER / archive.Place(4, 'train').name).read_bytes()
  )
  # With the six held-out answers at the end of the first start.
  assert int(dict(got.facts)['rollouts']) == 3 * len(rows) + 6
  assert got.notes[0].startswith('--steps: only steps 3 to 5 are shown')
  # Prompts by the ledger's records, and what these steps asked.
  records = [r for r in ledger_of(run, STEPS) if 3 <= r.step <= 5]
  rates = collections.defaultdict(list)
  for r in records:
    rates[r.prompt].append((r.step, r.right, r.judged))
  assert {p.prompt: p.rates for p in got.prompts.prompts} == rates
  assert sum(got.prompts.counts.values()) == len(rates)
  # Time from the end of step 2 to that of step 5, the restart included.
  lines = (run / 'clock.jsonl').read_text().splitlines()
  ended = {}
  for line in map(json.loads, lines):
    ended.setdefault(line['step'], line['time'])
  root = got.waste.root
  want = (ended[5] - ended[2]) * 1000
  assert root.milliseconds == pytest.approx(want, abs=2)
  assert 'down' in {part.name for part in root.parts}
  assert sum(part.milliseconds for part in root.parts) == root.milliseconds


def test_steps_after_the_newest_checkpoint_have_no_prompts(run):
  known = ledger_lib.within(ledger_of(run, STEPS), range(5))
  got = read.report(
    str(run), ledger=known, samples=fit.NO_SAMPLES, steps=range(6, 9)
  )
  assert not got.prompts.prompts
  assert 'The newest checkpoint has no prompts of these steps.' in got.notes
  got = read.report(
    str(run), ledger=known, samples=fit.NO_SAMPLES, steps=range(3, 9)
  )
  assert any('until step 4; the metrics go to step 8' in n for n in got.notes)


def test_slots_are_shown_with_their_step_only(run):
  got = values_of(run, steps=range(3, 6))
  assert got.slots is None
  note = f'Slots are known of the newest step only, {STEPS}, which'
  assert f'{note} is not shown.' in got.notes
  assert 'no timeline of a step shown' in fit.page_lib.to_html(got)
  got = values_of(run, steps=range(6, STEPS + 1))
  assert got.slots == values_of(run).slots
  assert not any('Slots' in note for note in got.notes)


def test_rows_of_a_probe_change_no_other_figure(run, copy):
  probe = reporting_rows.rows(3, 4, phase='probe', stage='main')
  reporting_rows.write(copy, probe, 4, 'probe')
  before, after = values_of(run), values_of(copy)
  count = int(dict(before.facts)['rollouts'])
  assert dict(after.facts)['rollouts'] == str(count + len(probe))
  same = lambda got: [pair for pair in got.facts if pair[0] != 'rollouts']
  assert same(after) == same(before)
  assert after.alarms == before.alarms and after.prompts == before.prompts
  assert after.curves[0][1:] == before.curves[0][1:]
  tables = [{t.title: t.rows for t in got.tables} for got in (before, after)]
  assert tables[0].keys() == tables[1].keys()
  for title in tables[0]:
    old, new = (found[title] for found in tables)
    assert [row for row in new if row[0] != 'probe'] == old
  notes = [
    next(t.note for t in got.tables if t.title == 'Verdicts')
    for got in (before, after)
  ]
  assert ['no pass rates' in note for note in notes] == [False, True]
  shown = {
    (row[2], int(row[3])) for row in tables[1]['Verdicts'] if row[0] == 'probe'
  }
  counts = collections.Counter(row.domain for row in probe)
  assert shown == set(counts.items())


def test_runs_are_compared(run, copy):
  """By step, and what makes them hard to compare is said."""
  lines = (copy / 'metrics.jsonl').read_text().splitlines()[:6]
  (copy / 'metrics.jsonl').write_text(''.join(f'{line}\n' for line in lines))
  config = json.loads((copy / 'config.json').read_text())
  config['seed'] = 17
  config['stages'] = [dict(name='a'), dict(name='b')]
  (copy / 'config.json').write_text(json.dumps(config))
  got = values_of(run, compare=[str(copy)])
  assert [c.run for c in got.curves] == ['run', 'copy']
  assert got.curves[1].steps == list(range(7))
  assert any('took steps 1 to 6, this run 1 to 10' in n for n in got.notes)
  assert any('has the stages a, b' in note for note in got.notes)
  (seed,) = (field for field in got.fields if field.name == 'seed')
  assert seed.others == {'copy': '17'}
  # Of one name: told apart by their folders.
  got = values_of(run, compare=[str(run)])
  assert {c.run for c in got.curves} == {str(run)}


def test_an_older_run_has_notes_instead(copy):
  for name in ('clock.jsonl', 'timeline.jsonl', 'starts.jsonl', 'config.json'):
    (copy / name).unlink()
  shutil.rmtree(copy / archive.FOLDER)
  shutil.rmtree(copy / 'checkpoints')
  got = values_of(copy)
  assert len(got.notes) == 6 and got.waste is got.slots is got.prompts is None
  seconds = [
    json.loads(line)['seconds_step']
    for line in (copy / 'metrics.jsonl').read_text().splitlines()
  ]
  assert got.curves[0].hours[-1] == pytest.approx(sum(seconds) / 3600)
  fit.page_lib.to_html(got)


def test_a_run_that_goes_on(copy):
  """Lines are torn, a summary and the newest checkpoint are not there yet."""
  for name in ('metrics.jsonl', 'clock.jsonl'):
    path = copy / name
    path.write_text(path.read_text().rstrip('\n')[:-7])
  starts = (copy / 'starts.jsonl').read_text().splitlines()
  last = json.dumps(json.loads(starts.pop()) | dict(ended=''))
  (copy / 'starts.jsonl').write_text('\n'.join([*starts, last]))
  (copy / 'summary.json').unlink()
  got = values_of(copy)
  assert got.curves[0].steps == list(range(STEPS))
  assert dict(got.facts)['state'] != 'over'


def state_of(folder):
  return dict(values_of(folder).facts)['state']


def test_the_state_of_a_run_that_is_killed_and_starts_again(
  files, compiled, tmp_path
):
  """Its files are alike: its process tells one that goes on from a dead one."""
  workdir = tmp_path / 'run'
  # It saves nothing until it is asked to stop.
  flags = '--config.steps=100000', '--config.checkpoint.every=100000'
  begin = lambda: Command(files, compiled, workdir, *flags)
  goes = begin()
  goes.wait_for('\nstep ')
  assert state_of(workdir) == 'going on'
  goes.process.kill()
  goes.end()
  assert state_of(workdir).startswith('died (no process holds its lock)')
  # The version that died is another.
  file = workdir / 'starts.jsonl'
  (line,) = file.read_text().splitlines()
  start = json.loads(line)
  start['made'] |= dict(commit='0123456789')
  file.write_text(json.dumps(start))
  again = begin()
  again.wait_for('\nstep ')
  got = dict(values_of(workdir).facts)
  assert got['state'] == 'going on' and got['starts'] == '2'
  assert '(0123456789), jax' in got['run by']
  assert f'; after step 0 acereason_jax {__version__}' in got['run by']
  assert got['devices'] == '1 x cpu'
  again.process.send_signal(signal.SIGTERM)
  again.ends(exits.STOPPED)
  assert state_of(workdir).startswith('stopped by a signal')
  # Where its processes are unknown: of another host.
  start['ended'] = ''
  file.write_text(json.dumps(start))
  lock = json.loads((workdir / '0.lock').read_text())
  (workdir / '0.lock').write_text(json.dumps(lock | dict(host='elsewhere')))
  assert state_of(workdir) == 'going on, or died'


def test_a_run_that_ends_while_its_state_is_read(copy, monkeypatch):
  """The process is gone, but its last start did not die."""
  file = copy / 'starts.jsonl'
  whole = file.read_text()
  last = json.loads(whole.splitlines()[-1])
  (copy / 'summary.json').unlink()

  going = f'{json.dumps(last | dict(ended=""))}\n'
  for then, want in (
    (whole, 'over'),
    (going + going, 'going on, or died'),
    (going, 'died (no process holds its lock); the same command resumes it'),
  ):

    def held(path, then=then):
      assert path == str(copy / '0.lock')
      file.write_text(then)
      return False

    file.write_text(going)
    monkeypatch.setattr(living.locks, 'held', held)
    assert state_of(copy) == want


DAMAGE = dict(
  config=('config.json', '{"stages": 3'),
  strange_config=('config.json', '{"stages": 3, "rollout": []}'),
  summary=('summary.json', '[1, 2]'),
  starts=('starts.jsonl', '{"step": 1e400}\n[]\n'),
  large_starts=('starts.jsonl', ' ' * (2 << 20)),
  clock=('clock.jsonl', '{"start": -1, "seconds": {"a": NaN}}\n\0\n'),
  timeline=('timeline.jsonl', '{"step": 3}\n{"slot": "x"}\n'),
  plan=('plan.json', '{"stages": [{"name": {}}]}'),
  rows=('rollouts/00000003.parquet', 'PAR1'),
  evaluation=('evals/x/results.json', '{}'),
)


@pytest.mark.parametrize('name', DAMAGE)
def test_a_damaged_file_is_no_end(copy, name):
  path, content = DAMAGE[name]
  (copy / path).parent.mkdir(parents=True, exist_ok=True)
  (copy / path).write_text(content)
  fit.page_lib.to_html(values_of(copy))


def test_a_damaged_checkpoint_is_a_note(copy):
  for path in (copy / 'checkpoints').rglob('*'):
    if path.is_file() and 'ledger' in path.parts:
      path.write_bytes(b'no')
  ledger, note = report.load_ledger(str(copy))
  assert ledger is None and note.startswith('Not read: checkpoint')


USAGE = {
  'no such run': ([], 'absent', 'no such run'),
  'no steps': ([], 'empty', 'holds no step'),
  'steps': (['--steps=5'], 'run', 'expected FIRST:LAST'),
  'backwards': (['--steps=5:3'], 'run', 'expected FIRST:LAST'),
  'beyond': (['--steps=50:60'], 'run', 'took steps 1 to 10'),
  'why': (['--why', '--step=1'], 'run', 'give --prompt, --step and --index'),
  'not why': (['--prompt=x'], 'run', 'only with --why'),
  'many': (['--compare=x'] * 6, 'run', 'at most 5'),
  'compare': (['--compare=absent'], 'run', 'no such run'),
  'evals': (['--evals=absent'], 'run', 'absent'),
  'scheme': ([], 's3://x/y', 'gs://BUCKET'),
  'out': (['--out=s3://x/y'], 'run', 'gs://BUCKET'),
  'no out': (['--out=x.html', '--watch'], 'run', 'write no file; omit it'),
  'both': (
    ['--watch', '--why', '--prompt=p', '--step=1', '--index=0'],
    'run',
    'give one of them',
  ),
}


@pytest.mark.parametrize('name', USAGE)
def test_what_a_user_can_fix_is_one_line(
  run, tmp_path, monkeypatch, capsys, name
):
  flags, folder, words = USAGE[name]
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'empty' / 'metrics.jsonl').write_text('{"step"')
  place = run if folder == 'run' else folder
  with pytest.raises(SystemExit) as ended:
    report.main(['report', str(place), *flags])
  said = capsys.readouterr().err
  if isinstance(ended.value.code, str):
    said = ended.value.code
  assert words in said and '\n' not in said.strip()


def test_a_run_in_a_bucket(run, tmp_path):
  with object_store.started(tmp_path) as store:
    del store
    for path in run.rglob('*'):
      if path.is_file() and path.suffix != '.lock':
        name = path.relative_to(run).as_posix()
        report.storage.write(f'gs://runs/x/{name}', path.read_bytes())
    here, there = values_of(run), values_of('gs://runs/x')
  assert there.curves[0]._replace(run='') == here.curves[0]._replace(run='')
  assert there[4:] == here[4:]
  assert [f for f in there.facts if f[0] != 'x'] == list(here.facts)


def test_the_look_before_the_first_step_is_one_of_the_steps(run):
  looks = lambda **more: [
    row[0]
    for table in values_of(run, **more).tables
    if table.title == 'Held-out looks'
    for row in table.rows
  ]
  assert '0' in looks() and '0' not in looks(steps=range(3, STEPS + 1))


def test_the_head_tells_the_first_look_whatever_the_steps(copy):
  (copy / 'summary.json').unlink()  # As while it goes on.
  told = [
    dict(values_of(copy, **more).facts)['held-out']
    for more in ({}, dict(steps=range(3, STEPS + 1)))
  ]
  assert '(step 0); best' in told[0] and told[0] == told[1]
