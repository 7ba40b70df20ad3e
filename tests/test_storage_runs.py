"""Whole runs in a bucket, on a real server, that are killed or cut off."""

import random
import signal
import threading
import time

import gangs
import pytest
from runs import Command, assert_same_run, ledger_of, metrics_of, saved_steps

from acereason_jax import export, ledger, storage
from acereason_jax.reporting import waste

pytestmark = [
  pytest.mark.hosts,
  # Signals go to processes that this module started.
  pytest.mark.usefixtures('compiled_once'),
]
ENDS = 2, 5, 7
STEPS = ENDS[-1]
KEEP = f'--config.checkpoint.keep={STEPS}'
FILES = (
  *('config.json', 'metrics.jsonl', 'summary.json', 'timeline.jsonl'),
  'clock.jsonl',
)


@pytest.fixture(scope='module')
def command(folder, store, compiled):
  """A run of three stages, given its workdir and flags."""
  return lambda *args, **kwargs: Command(
    folder, compiled, *args, **dict(config='staged_config') | kwargs
  )


@pytest.fixture(scope='module')
def reference(folder, command):
  """The folder, on a disk, of the run that nothing disturbed."""
  workdir = folder / 'reference'
  command(workdir, KEEP).ends(0)
  return workdir


@pytest.fixture(scope='module')
def whole(command):
  """The URL of the same run in a bucket."""
  url = 'gs://runs/whole'
  command(url, KEEP).ends(0)
  return url


def test_a_run_in_a_bucket_is_that_on_a_disk(whole, store, reference):
  place = store.place(whole)
  assert_same_run(place, reference, STEPS)
  assert saved_steps(place) == saved_steps(reference)
  assert len(metrics_of(place)) == STEPS
  names = storage.names(whole)
  assert {*FILES} <= {*names}
  assert [n for n in names if n.startswith('tensorboard/')]
  assert not [n for n in names if n.endswith('.lock')]


def test_the_report_of_a_run_in_a_bucket_is_there(command):
  url = 'gs://runs/reported'
  # Other starts here write none.
  said = command(url, fresh=True, config='tiny_config').ends(0)
  assert f'{url}/report.html: the report of the run' in said
  page = storage.read(f'{url}/report.html', 1 << 24)
  assert page.lower().startswith(b'<!doctype html>')
  # It read the run there.
  assert b'<dt>state</dt><dd>over</dd>' in page
  assert b'report.html' in storage.read(f'{url}/report.log', 1 << 16)


def test_a_run_that_is_over_says_so(whole, command):
  said = command(whole, KEEP).ends(0)
  assert 'finished already: {"' in said


def test_what_reads_a_run_reads_it_there(
  whole, store, folder, command, tmp_path, capsys
):
  for out, place in (('there', whole), ('here', store.place(whole))):
    export.export(f'{place}/checkpoints/5', str(tmp_path / out))
  files = [p.name for p in (tmp_path / 'here').iterdir()]
  assert 'model.safetensors' in files
  for name in files:
    there, here = (
      (tmp_path / d / name).read_bytes() for d in ('there', 'here')
    )
    assert there == here
  out = f'{whole}/ledger.parquet'
  assert ledger.main(['ledger', whole, f'--out={out}']) == 0
  assert ledger.main(['ledger', out]) == 0
  summaries = capsys.readouterr().out.splitlines()
  assert summaries[: len(summaries) // 2] == summaries[len(summaries) // 2 :]
  # A stage alone, from where the run in the bucket stood at its begin.
  alone = ["--config.start.stages=('both',)", KEEP]
  start = f'--config.start.run={whole}/checkpoints/5'
  command(tmp_path / 'alone', start, *alone).ends(0)
  assert metrics_of(tmp_path / 'alone') == metrics_of(store.place(whole))[5:]


def test_a_run_that_is_killed_at_any_moment_goes_on(command, store, reference):
  rng = random.Random(17)
  url, kills = 'gs://runs/killed', 0
  # Three starts in a row that are killed early would end the run.
  anew = lambda: storage.remove(f'{url}/starts.jsonl')
  for number in range(6):
    anew()
    run = command(url, KEEP)
    # The first is killed while it begins, the others after that.
    if number:
      run.wait_for('attention of the update')
    timer = threading.Timer(rng.uniform(0, 6), run.process.kill)
    timer.start()
    status = run.end()
    timer.cancel()
    assert status in (0, -signal.SIGKILL), run.output
    kills += status != 0
    if status == 0:
      break
  assert kills >= 3
  anew()
  command(url, KEEP).ends(0)
  assert_same_run(store.place(url), reference, STEPS)
  # A start whose lines came there before it was killed is in the clock.
  clock = waste.read_clock((store.place(url) / 'clock.jsonl').read_text())
  assert clock[-1].start >= 1 and clock[-1].step == STEPS
  times = [line.time for line in clock]
  assert times == sorted(times)


def test_two_processes_that_are_killed_go_on(command, store, folder):
  url = 'gs://runs/two'
  runs = gangs.start(command, url, 2)
  runs[0].wait_for('step 4/')
  for run in runs:
    run.process.kill()
    run.end()
  assert [run.end() for run in gangs.start(command, url, 2)] == [0, 0]
  command(folder / 'one', devices=2).ends(0)
  place = store.place(url)
  assert ledger_of(place, STEPS) == ledger_of(folder / 'one', STEPS)
  two, one = metrics_of(place), metrics_of(folder / 'one')
  for name in ('pass_rate', 'response_length', 'heldout/code', 'asked'):
    assert [r.get(name) for r in two] == [r.get(name) for r in one]


FAULTS = {
  'down': (lambda s: s.stop(), lambda s: s.start()),
  'paused': (lambda s: s.pause(), lambda s: s.go_on()),
  '503': (
    lambda s: setattr(s, 'status', 503),
    lambda s: setattr(s, 'status', 0),
  ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_store_that_is_away_for_a_minute_interrupts_nothing(
  command, store, reference, fault
):
  url = f'gs://runs/away-{fault}'
  run = command(url, KEEP)
  run.wait_for('step 3/')
  begin, end = FAULTS[fault]
  begin(store)
  time.sleep(60)
  end(store)
  run.ends(0)
  assert_same_run(store.place(url), reference, STEPS)


def test_a_slow_store_interrupts_nothing(command, store, reference):
  store.delay = 0.3
  try:
    command('gs://runs/slow', KEEP).ends(0)
  finally:
    store.delay = 0.0
  assert_same_run(store.place('gs://runs/slow'), reference, STEPS)


def test_a_store_that_stays_away_ends_the_run_in_one_line(
  command, store, reference
):
  url = 'gs://runs/gone'
  run = command(url, KEEP)
  run.wait_for('step 3/')
  store.stop()
  try:
    said = run.ends(1)
  finally:
    store.start()
  (line,) = [x for x in said.splitlines() if x.startswith('error: ')]
  assert 'the store cannot be reached; look at the network' in line
  command(url, KEEP).ends(0)
  assert_same_run(store.place(url), reference, STEPS)


def test_a_second_run_in_the_same_place_is_refused(command, store):
  url = 'gs://runs/one-at-a-time'
  first = command(url)
  first.wait_for('attention of the update')
  said = command(url).ends(1)
  assert 'is a run that writes here; wait until it has ended' in said
  first.ends(0)


@pytest.mark.parametrize(
  'workdir, words',
  [
    (
      's3://runs/x',
      '--workdir: s3://runs/x: no such kind of place; give gs://',
    ),
    ('gs://', "--workdir: gs://: '' is not the name of a bucket"),
    ('gs://nobody/x', 'there is no bucket gs://nobody; make it'),
    ('gs://forbidden/x', 'give it the role storage.objectUser on gs://forb'),
  ],
)
def test_a_place_that_is_none_is_one_line(command, store, workdir, words):
  store.make_bucket('forbidden')
  store.forbidden.add('forbidden')
  said = command(workdir).ends(1)
  (line,) = [x for x in said.splitlines() if x.startswith('error: ')]
  assert words in line
  assert 'compiling' not in said
