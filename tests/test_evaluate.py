"""The real command over a tiny model: kills, growth, judges, bad input.

Waiting has a guard, which says that a run hangs; nothing here is timed.
"""

import collections
import json
import pathlib
import random
import threading
import time

import called
import forked
import gangs
import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny
import tiny_judge

from acereason_jax import checkout, evaluate
from acereason_jax.console import exits
from acereason_jax.evaluation import run

pytestmark = pytest.mark.usefixtures('compiled_once')
GUARD = 600
# Rollouts of the whole tiny evaluation.
COUNTS = dict(few=5 * 4, long=4 * 3, more=6 * 2)
CHANGED = """
import pathlib
import tiny

def get_config():
  c = tiny.evaluation(pathlib.Path({folder!r}))
  with c.unlocked():
{lines}
  return c
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('tiny')
  tiny.write_evaluation(path)
  return path


@pytest.fixture
def config(folder, tmp_path):
  """(lines of Python that change `c`) -> path of the config."""

  def write(*lines):
    path = tmp_path / f'config_{len(list(tmp_path.iterdir()))}.py'
    body = '\n'.join(f'    {line}' for line in (*lines, 'pass'))
    path.write_text(CHANGED.format(folder=str(folder), lines=body))
    return path

  return write


@pytest.fixture
def call(capsys, monkeypatch):
  """(exit status, what was said) of the command in this process."""
  precision = jax.config.jax_default_matmul_precision
  told = called.by(evaluate, capsys, monkeypatch)
  # The watchdog would end this process, whatever it does later.
  yield lambda *words: told(*words, '--hang_seconds=0')
  jax.config.update('jax_default_matmul_precision', precision)


def results_of(out):
  return json.loads(
    (out / 'results.json').read_text(), parse_constant=pytest.fail
  )


def measured(out):
  """results.json without what is a time."""
  found = results_of(out)
  assert found.pop('cost')['tokens'] >= 0
  return json.dumps(found)


def lines_of(*paths):
  return [json.loads(x) for p in paths for x in p.read_text().splitlines()]


def samples_of(out):
  lines = lines_of(*out.glob('samples/*.jsonl'))
  found = {(x['benchmark'], x['id'], x['index']): x for x in lines}
  assert len(found) == len(lines)
  return found


@pytest.fixture(scope='module')
def whole(folder, tmp_path_factory, compiled_once):
  """The folder of an evaluation that nothing stopped."""
  out = tmp_path_factory.mktemp('whole') / 'out'
  words = [f'--config={folder}/tiny_eval.py', f'--out={out}']
  assert evaluate.main(['', *words, '--hang_seconds=0']) == 0
  return out


# --- what a run leaves ------------------------------------------------------


def test_numbers_are_those_of_the_files(whole, folder):
  """Judged again here, and averaged by hand."""
  samples = samples_of(whole)
  count = collections.Counter(name for name, *_ in samples)
  assert count == COUNTS
  answers = {
    (name, row['id']): row['answer']
    for name in COUNTS
    for row in lines_of(folder / f'{name}.jsonl')
  }
  right = collections.defaultdict(list)
  for (name, problem, _), sample in samples.items():
    verdict = tiny_judge.verify(
      sample['text'], answers[name, problem], reasons=False
    )
    right[name, problem].append(verdict.status == 'right')
  found = results_of(whole)
  assert found['schema'] == 1 and found['model']['step'] is None
  for name in COUNTS:
    rates = [np.mean(r) for (n, _), r in right.items() if n == name]
    entry = found['benchmarks'][name]['parity']
    assert entry['avg'] == pytest.approx(np.mean(rates), abs=1e-12)
    assert entry['judged'] == COUNTS[name] and entry['failed'] == 0
    lengths = [s['length'] for k, s in samples.items() if k[0] == name]
    told = found['rollouts'][name]
    assert told['length']['mean'] == pytest.approx(np.mean(lengths))
    assert told['truncated'] == sum(
      s['stop'] == 'length' for k, s in samples.items() if k[0] == name
    )
  assert max(s['length'] for k, s in samples.items() if k[0] == 'few') == 8
  assert sum(s['length'] for s in samples.values()) == found['cost']['tokens']
  assert list(found['benchmarks']['few']) == ['parity', 'known']
  # The judge that only looks at answers knows half of the problems.
  assert found['benchmarks']['long']['known']['avg'] == 0.5
  # None where the tests run in no checkout of git.
  commit = found['versions']['commit'] or ''
  assert commit.rstrip('+') == checkout.commit().rstrip('+')


def test_the_first_prompts_are_kept(whole):
  first = results_of(whole)['data']['long']['first_prompt']
  assert first == dict(
    id='long-30', tokens=8, bos=None, ends='<user>30+30?<assistant>'
  )


def test_a_finished_evaluation_draws_nothing(whole, folder, call, monkeypatch):
  before = measured(whole)
  monkeypatch.setattr(run, 'make_engine', pytest.fail)
  status, said = call(f'--config={folder}/tiny_eval.py', f'--out={whole}')
  assert status == 0 and '0 rollouts to draw, 44 there already' in said
  assert measured(whole) == before


def test_one_engine_and_one_compile(config, tmp_path, call, monkeypatch):
  served = []
  serve = run.make_engine
  monkeypatch.setattr(
    run, 'make_engine', lambda job: served.append(serve(job)) or served[-1]
  )
  assert call(f'--config={config()}', f'--out={tmp_path}/out')[0] == 0
  (one,) = served
  for program in (one.engine.prefill, one.engine.decode):
    assert program._cache_size() == 1


def test_long_rollouts_start_first(whole):
  header, *events = lines_of(whole / 'timeline.jsonl')
  first = sorted(events, key=lambda e: (e['began'], e['slot']))
  names = [e['prompt_id'].partition('/')[0] for e in first[: header['slots']]]
  assert set(names) == {'long'}


def test_tokens_are_written_when_asked_for(config, tmp_path, call):
  out = tmp_path / 'out'
  words = f'--config={config()}', f'--out={out}', '--only=more'
  assert call(*words, '--tokens')[0] == 0
  for sample in samples_of(out).values():
    assert len(sample['tokens']) == len(sample['logps']) == sample['length']
    assert sum(sample['logps']) == pytest.approx(sample['logp'], rel=1e-5)


# --- growth -----------------------------------------------------------------


def test_n_grows(config, tmp_path, call):
  few, many = config(), config('c.benchmarks.few.n = 16')
  grown, once = tmp_path / 'grown', tmp_path / 'once'
  for path, out in ((few, grown), (many, grown), (many, once)):
    assert call(f'--config={path}', f'--out={out}')[0] == 0
  assert measured(grown) == measured(once)
  assert results_of(once)['benchmarks']['few']['parity']['judged'] == 5 * 16
  status, said = call(f'--config={few}', f'--out={grown}')
  assert status == 1 and 'few.n: 16 -> 4' in said


def test_benchmarks_may_be_added_in_any_order(whole, folder, tmp_path, call):
  out = tmp_path / 'out'
  words = f'--config={folder}/tiny_eval.py', f'--out={out}'
  for only in ('more', 'long,few'):
    assert call(*words, f'--only={only}')[0] == 0
  assert measured(out) == measured(whole)
  assert {k: s['text'] for k, s in samples_of(out).items()} == {
    k: s['text'] for k, s in samples_of(whole).items()
  }


def test_sizes_that_are_chosen_do_not_depend_on_what_is_missing(
  config, tmp_path, call
):
  chosen = 'c.engine.update(slots=0, page=0, chunk=0)'
  grown, once = tmp_path / 'grown', tmp_path / 'once'
  one, two = config(chosen, 'c.benchmarks.few.n = 1'), config(chosen)
  assert call(f'--config={one}', f'--out={grown}', '--only=few')[0] == 0
  for out in (grown, once):
    assert call(f'--config={two}', f'--out={out}')[0] == 0
  assert measured(grown) == measured(once)


def test_another_seed_gives_other_rollouts(whole, config, tmp_path, call):
  path = config('c.seed = 1')
  assert call(f'--config={path}', f'--out={tmp_path}/out')[0] == 0
  ours, theirs = samples_of(tmp_path / 'out'), samples_of(whole)
  assert ours.keys() == theirs.keys()
  same = [k for k in ours if ours[k]['text'] == theirs[k]['text']]
  assert len(same) < len(ours) / 4
  status, said = call(f'--config={path}', f'--out={whole}')
  assert status == 1 and 'seed: 0 -> 1; give another --out' in said


# --- judges that fail -------------------------------------------------------

BREAKS = "c.benchmarks.few.judges.parity.verify.fn = 'tiny_judge:breaks'"


def test_failed_verdicts_change_n_and_not_the_average(config, tmp_path, call):
  out = tmp_path / 'out'
  status, said = call(f'--config={config(BREAKS)}', f'--out={out}')
  assert status == exits.FOR_USER
  assert 'few.parity failed' in said and '--judge=' in said
  by_problem = collections.defaultdict(list)
  failed = 0
  for (name, problem, _), sample in samples_of(out).items():
    if name == 'few':
      bad = tiny_judge.is_bad(sample['text'])
      failed += bad
      if not bad:
        answer = str(int(problem.rpartition('-')[2]) % 2)
        verdict = tiny_judge.verify(sample['text'], answer, reasons=False)
        by_problem[problem].append(verdict.status == 'right')
  assert 0 < failed < 20
  entry = results_of(out)['benchmarks']['few']['parity']
  assert (entry['failed'], entry['judged']) == (failed, 20 - failed)
  assert entry['avg'] == pytest.approx(
    np.mean([np.mean(r) for r in by_problem.values()])
  )
  assert entry['marked']
  assert not results_of(out)['benchmarks']['few']['known']['marked']
  # Each was asked for twice, and never again.
  verdicts = lines_of(out / 'verdicts' / 'parity' / '0.jsonl')
  errors = [v for v in verdicts if v['status'] == 'error']
  assert len(errors) == 2 * failed
  before = measured(out)
  assert call(f'--config={config(BREAKS)}', f'--out={out}')[0] == 1
  assert lines_of(out / 'verdicts' / 'parity' / '0.jsonl') == verdicts
  assert measured(out) == before
  # Within the share that may fail, the status is good.
  allowed = config(BREAKS, 'c.judge.max_failed_share = 0.9')
  assert call(f'--config={allowed}', f'--out={out}')[0] == 0


def test_a_failed_verdict_is_asked_for_again(whole, config, tmp_path, call):
  out, marks = tmp_path / 'out', tmp_path / 'marks'
  marks.mkdir()
  path = config(
    'judge = c.benchmarks.few.judges.parity',
    f"judge.verify = dict(fn='tiny_judge:recovers', reasons=False, "
    f'folder={str(marks)!r})',
    'judge.confine = False',
  )
  assert call(f'--config={path}', f'--out={out}')[0] == 0
  verdicts = lines_of(out / 'verdicts' / 'parity' / '0.jsonl')
  errors = [v for v in verdicts if v['status'] == 'error']
  assert len(errors) == len(list(marks.iterdir())) > 0
  ours, theirs = results_of(out), results_of(whole)
  assert ours['benchmarks'] == theirs['benchmarks']


def test_rollouts_that_could_not_end_are_failed(tmp_path, call, config):
  broken = tiny.write_model(tmp_path / 'broken')
  tensors = safetensors.numpy.load_file(broken / 'model.safetensors')
  tensors['model.norm.weight'][0] = np.nan
  safetensors.numpy.save_file(tensors, broken / 'model.safetensors')
  out = tmp_path / 'out'
  status, said = call(
    f'--config={config()}', f'--model={broken}', f'--out={out}'
  )
  assert status == exits.FOR_USER and 'more.parity' in said
  found = results_of(out)
  assert found['rollouts']['few']['errors'] == 20
  assert found['benchmarks']['few']['parity']['failed'] == 20
  assert found['benchmarks']['few']['parity']['avg'] is None
  assert not (out / 'verdicts' / 'parity' / '0.jsonl').read_text()


# --- other commands ---------------------------------------------------------


def copied(whole, to):
  for path in whole.rglob('*'):
    if path.is_file():
      target = to / path.relative_to(whole)
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_bytes(path.read_bytes())
  return to


def test_judges_are_asked_anew(whole, config, tmp_path, call):
  out = copied(whole, tmp_path / 'out')
  other = config(
    "c.benchmarks.few.judges.known.verify.fn = 'tiny_judge:all_right'"
  )
  status, said = call(f'--config={other}', f'--out={out}')
  assert status == 1 and f'evaluate --judge={out}' in said
  assert 'judges.few.known.fn' in said
  words = f'--config={other}', f'--judge={out}'
  assert call(*words, '--judges=known')[0] == 0
  ours, theirs = results_of(out)['benchmarks'], results_of(whole)['benchmarks']
  assert ours['few']['known']['avg'] == 1.0
  assert ours['few']['parity'] == theirs['few']['parity']
  assert ours['long'] == theirs['long'] and ours['more'] == theirs['more']
  # It is now the evaluation of that judge.
  before = measured(out)
  assert call(f'--config={other}', f'--out={out}')[0] == 0
  assert measured(out) == before
  assert call(f'--config={config()}', f'--judge={out}')[0] == 0
  assert measured(out) == measured(whole)


def test_a_problem_may_lose_its_answer(whole, config, tmp_path, call):
  """Its rollouts are there, and its answer cannot be judged any more."""
  out, other = copied(whole, tmp_path / 'out'), tmp_path / 'few.jsonl'
  records = [
    dict(id=f'few-{i}', prompt=f'{i}+{i}?', answer=str(i % 2) if i else 'none')
    for i in range(5)
  ]
  path = config(rows(other, *records), 'c.benchmarks.few.allow_missing = True')
  assert call(f'--config={path}', f'--judge={out}')[0] == 0
  ours, theirs = results_of(out), results_of(whole)
  assert ours['data']['few']['missing'][0][0] == 'few-0'
  assert (
    ours['benchmarks']['few']['parity']['by_problem']
    == (theirs['benchmarks']['few']['parity']['by_problem'][1:])
  )


def test_a_missing_verdict_is_asked_for(whole, folder, tmp_path, call):
  out = copied(whole, tmp_path / 'out')
  path = out / 'verdicts' / 'parity' / '0.jsonl'
  kept = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(kept[::2]) + kept[1][:20])
  assert call(f'--config={folder}/tiny_eval.py', f'--out={out}')[0] == 0
  assert measured(out) == measured(whole)
  assert len(path.read_text().splitlines()) == len(kept)


def test_responses_of_a_file_are_judged(whole, config, tmp_path, call):
  file, out = tmp_path / 'rollouts.jsonl', tmp_path / 'out'
  records = [
    {name: x[name] for name in ('id', 'index', 'text')}
    for k, x in samples_of(whole).items()
    if k[0] == 'few'
  ]
  file.write_text(''.join(json.dumps(r) + '\n' for r in records))
  words = f'--rollouts={file}', f'--out={out}', '--only=few'
  assert call(f'--config={config()}', *words)[0] == 0
  ours, theirs = results_of(out), results_of(whole)
  for judge in ('parity', 'known'):
    for name in ('avg', 'rerun_error', 'judged'):
      entry = ours['benchmarks']['few'][judge]
      assert entry[name] == theirs['benchmarks']['few'][judge][name]
  for change, line in (
    (dict(id='who'), "few has no problem 'who'"),
    (dict(index=4), 'expected 0 to 3'),
    (dict(index=1), 'comes twice'),
    (dict(benchmark='none'), "benchmark 'none'"),
  ):
    first = records[0] | dict(index=1 if records[0]['index'] != 1 else 0)
    bad = [records[0] | dict(index=1), first | dict(index=0) | change]
    file.write_text(''.join(json.dumps(r) + '\n' for r in bad))
    status, said = call(
      f'--config={config()}',
      f'--rollouts={file}',
      f'--out={tmp_path / line[:5]}',
      '--only=few',
    )
    assert status == 1 and line in said


def test_two_are_compared(whole, config, tmp_path, call):
  out = copied(whole, tmp_path / 'b')
  assert call('--compare', whole, out)[0] == 0
  assert (out / 'compare.json').exists()
  assert list((out / 'figures').glob('*.solve_rates.svg'))
  status, said = call('--compare', whole, tmp_path / 'none')
  assert status == 1 and 'none' in said
  assert call('--compare', whole, out, '--only=few')[0] == 0
  assert call('--compare', whole)[0] == exits.USAGE


def test_published_numbers_are_of_one_row(whole, config, tmp_path, call):
  out = copied(whole, tmp_path / 'out')
  columns = [f"c.benchmarks.{n}.published = 'aime24'" for n in ('few', 'more')]

  def published(row, *words):
    path = config(f"c.published = '{row}'", *columns)
    assert call(f'--config={path}', f'--out={out}', *words)[0] == 0
    found = results_of(out)
    assert found['published'] == row
    told = [found['benchmarks'][n]['parity'] for n in ('few', 'more')]
    return [e['published'] and e['published']['value'] for e in told]

  assert published('acereason-7b') == [0.69, 0.69]
  # `more` keeps its numbers, without those of a row that is not named.
  assert published('acereason-14b', '--only=few') == [0.786, None]
  assert published('acereason-14b') == [0.786, 0.786]


def test_a_table_is_shown_again(whole, call):
  status, said = call(f'--show={whole}')
  assert status == 0 and 'parity' in said
  assert max(map(len, said.splitlines())) <= 80


def test_what_another_took_is_expected(whole, config, tmp_path, call):
  words = f'--config={config()}', f'--out={tmp_path}/out', '--dry_run'
  status, said = call(*words, f'--like={whole}')
  assert status == 0 and '44 rollouts to draw, about ' in said
  tokens = results_of(whole)['cost']['tokens']
  assert f'about {tokens} tokens' in said
  assert (
    'tokens; an estimate follows when 2% of the rollouts' in call(*words)[1]
  )
  assert not (tmp_path / 'out').exists()


# --- kills ------------------------------------------------------------------


class Command:
  """The command in a process of its own."""

  def __init__(
    self,
    folder,
    out,
    *more,
    devices=1,
    config='tiny_eval',
    head=('-m', 'acereason_jax.evaluate'),
  ):
    self.out = pathlib.Path(out)
    words = [f'--config={folder}/{config}.py', f'--out={out}', *more]
    self.process = forked.command(
      [*head, *words],
      tiny.environment(folder / 'compiled', devices),
    )
    self._guard = threading.Timer(GUARD, self.process.kill)
    self._guard.daemon = True
    self._guard.start()

  def wait_for_lines(self, part, count):
    """Until a part of the folder has so many lines, or it has ended."""
    while self.process.poll() is None:
      files = self.out.glob(f'{part}/**/*.jsonl')
      if sum(p.read_bytes().count(b'\n') for p in files) >= count:
        return
      time.sleep(0.001)

  def ends(self, status=None):
    said = self.process.communicate()[0]
    self._guard.cancel()
    assert 'Traceback' not in said, said
    if status is not None:
      assert self.process.returncode == status, said
    return said


@pytest.fixture(scope='module')
def large(folder):
  """A config with more rollouts, and the folder of a run of it."""
  path = folder / 'large_eval.py'
  lines = '    c.benchmarks.few.n = 40\n    c.benchmarks.long.n = 20'
  path.write_text(CHANGED.format(folder=str(folder), lines=lines))
  out = folder / 'large'
  Command(folder, out, config='large_eval').ends(0)
  return out


def killed(folder, out, seed, kills):
  """Kills the command at random moments, then lets it end."""
  moments = random.Random(seed)
  for i in range(kills):
    command = Command(folder, out, config='large_eval')
    part = ('samples', 'verdicts')[i % 2]
    command.wait_for_lines(part, moments.randrange(1, 290))
    command.process.kill()
    command.ends()
    if i % 2:
      # As a kill in the middle of a write leaves it.
      for path in out.glob('*/**/0.jsonl'):
        with path.open('ab') as file:
          file.write(b'{"benchmark": "few", "id"')
  Command(folder, out, config='large_eval').ends(0)


def test_killed_is_as_if_nothing_happened(large, folder, tmp_path):
  killed(folder, tmp_path / 'out', seed=0, kills=3)
  assert measured(tmp_path / 'out') == measured(large)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(1, 5))
def test_killed_often(large, folder, tmp_path, seed):
  killed(folder, tmp_path / 'out', seed, kills=5)
  assert measured(tmp_path / 'out') == measured(large)


def test_a_signal_stops_with_nothing_lost(large, folder, tmp_path):
  out = tmp_path / 'out'
  head = [str(tiny.TESTS / 'signalled.py'), 'SIGTERM', '20', 'samples']
  command = Command(folder, out, config='large_eval', head=head)
  assert 'the same command goes on' in command.ends(exits.STOPPED)
  there = len(samples_of(out))
  assert 20 <= there < 292
  said = Command(folder, out, config='large_eval').ends(0)
  assert f'{there} there already' in said
  assert measured(out) == measured(large)


# --- several processes ------------------------------------------------------


def gang(folder, outs, *more, config='large_eval'):
  commands = [
    Command(folder, out, *flags, *more, config=config)
    for out, flags in zip(outs, gangs.flags(len(outs)))
  ]
  return [c.ends(0) for c in commands]


@pytest.mark.hosts
def test_two_processes_are_one(large, folder, tmp_path):
  """On two devices, with one folder for all and with one for each."""
  Command(folder, tmp_path / 'one', config='large_eval', devices=2).ends(0)
  alone = measured(tmp_path / 'one')
  gang(folder, [tmp_path / 'both'] * 2)
  assert len(list((tmp_path / 'both').glob('samples/*.jsonl'))) == 2
  assert measured(tmp_path / 'both') == alone
  gang(folder, [tmp_path / 'a', tmp_path / 'b'])
  assert measured(tmp_path / 'a') == alone
  assert not (tmp_path / 'b' / 'results.json').exists()


@pytest.mark.hosts
def test_the_number_of_processes_may_change(large, folder, tmp_path):
  out = tmp_path / 'out'
  first = gang(folder, [out] * 2, '--only=few')
  Command(folder, out, config='large_eval', devices=2).ends(0)
  Command(folder, tmp_path / 'one', config='large_eval', devices=2).ends(0)
  assert measured(out) == measured(tmp_path / 'one')
  assert '800' not in first[0]


# --- bad input --------------------------------------------------------------


@pytest.fixture
def refused(config, tmp_path, call, monkeypatch):
  """The line for a config with changes, before anything is compiled."""
  monkeypatch.setattr(run, 'make_engine', pytest.fail)

  def check(*lines, flags=(), match):
    words = [f'--config={config(*lines)}', f'--out={tmp_path}/refused', *flags]
    status, said = call(*words)
    assert status == 1 and match in said, said
    return said

  yield check
  assert not (tmp_path / 'refused').exists()


def rows(path, *records):
  path.write_text(''.join(json.dumps(r) + '\n' for r in records))
  return f'c.benchmarks.few.data.paths = ({str(path)!r},)'


def test_a_file_that_is_missing(refused):
  refused("c.benchmarks.few.data.paths = ('no.jsonl',)", match='no.jsonl')


def test_another_number_of_problems(refused):
  refused('c.benchmarks.few.expect = 30', match='expected 30')


def test_unknown_columns(refused, tmp_path):
  line = rows(tmp_path / 'x.jsonl', dict(text='1+1?', solved='2'))
  said = refused(line, match='x.jsonl:1')
  assert "'text'" in said or 'text' in said


def test_an_id_that_occurs_twice(refused, tmp_path):
  line = rows(
    tmp_path / 'x.jsonl',
    dict(id='a', problem='1+1?', answer='0'),
    dict(id='a', problem='2+1?', answer='1'),
  )
  refused(line, match="'a'")


def test_an_answer_that_no_judge_reads(refused, tmp_path, config, call):
  line = rows(
    tmp_path / 'x.jsonl',
    dict(id='a', problem='1+1?', answer='0'),
    dict(id='b', problem='2+1?', answer='maybe'),
  )
  said = refused(line, match='1 of 2 problems cannot be used: b: ')
  assert 'allow_missing' in said
  out = tmp_path / 'allowed'
  path = config(line, 'c.benchmarks.few.allow_missing = True')
  words = f'--config={path}', f'--out={out}', '--only=few'
  status, said = call(*words, '--dry_run')
  assert status == 0 and 'few: 1/2 problems' in said


def test_what_is_missing_is_not_asked_for_again(config, tmp_path, call):
  """Even if the judge would read it today."""
  line = rows(
    tmp_path / 'x.jsonl',
    dict(id='a', problem='1+1?', answer='0'),
    dict(id='b', problem='2+1?', answer='maybe'),
  )
  out = tmp_path / 'out'
  path = config(line, 'c.benchmarks.few.allow_missing = True')
  words = f'--config={path}', f'--out={out}', '--only=few'
  assert call(*words)[0] == 0
  data = results_of(out)['data']['few']
  assert data['problems'] == 1 and data['missing'][0][0] == 'b'
  assert results_of(out)['benchmarks']['few']['parity']['asked'] == 4
  before = measured(out)
  assert call(*words)[0] == 0
  assert measured(out) == before


def test_a_context_that_is_too_short(refused):
  refused(
    'c.benchmarks.long.max_tokens = 60',
    match='config.benchmarks.long.max_tokens=60: with the 8 tokens',
  )
  refused('c.benchmarks.long.max_tokens = 60', match='; give at most 56')
  refused('c.window = 7', match='config.window=7')


def test_a_model_without_a_chat_template(refused, tmp_path):
  model = tiny.write_model(tmp_path / 'plain')
  settings = model / 'tokenizer_config.json'
  settings.write_text(json.dumps(dict(eos_token='<eos>')))
  refused(flags=[f'--model={model}'], match='has no chat template')


def with_template(tmp_path, template, **settings):
  model = tiny.write_model(tmp_path / 'other')
  (model / 'tokenizer_config.json').write_text(
    json.dumps(dict(eos_token='<eos>', chat_template=template, **settings))
  )
  return model


def test_an_opening_that_would_stand_twice(refused, tmp_path):
  model = with_template(
    tmp_path, tiny.TEMPLATE.replace("'<assistant>'", "'<assistant>think '")
  )
  said = refused(
    "c.benchmarks.few.prompt.opens = 'think'",
    flags=[f'--model={model}'],
    match='config.benchmarks.few.prompt: opens=',
  )
  assert 'stand there twice' in said


def test_two_bos_tokens(refused, tmp_path, config, call):
  twice = with_template(
    tmp_path, "{{ '<pad><pad>' }}" + tiny.TEMPLATE, bos_token='<pad>'
  )
  refused(flags=[f'--model={twice}'], match='begins with two BOS tokens')
  once = with_template(
    tmp_path, "{{ '<pad>' }}" + tiny.TEMPLATE, bos_token='<pad>'
  )
  status, said = call(
    f'--config={config()}', f'--model={once}', '--out=x', '--dry_run'
  )
  assert status == 0 and '7 tokens, begins with 1 BOS and' in said


def test_a_judge_that_does_not_exist(config, tmp_path, call, monkeypatch):
  monkeypatch.setattr(run, 'make_engine', pytest.fail)
  for fn in ('tiny_judge:no', 'no_such.module:verify', 'nothing'):
    path = config(f'c.benchmarks.few.judges.parity.verify.fn = {fn!r}')
    status, said = call(f'--config={path}', f'--out={tmp_path}/{fn[:4]}')
    assert status == 1 and 'config.benchmarks.few.judges.parity' in said


def test_a_source_without_its_package(refused):
  refused(
    "c.benchmarks.few.data.fn = 'files:aime'",
    match="no such module; give 'acereason_jax.evaluation.files:aime'",
  )


def test_k_above_n(refused):
  refused('c.benchmarks.few.ks = (1, 8)', match='n=4')


def test_a_price_without_chips(refused):
  refused('c.price_per_chip_hour = 4.2', match='no chip-hours')


def test_a_run_without_checkpoints(refused, tmp_path):
  (tmp_path / 'empty' / 'checkpoints').mkdir(parents=True)
  refused(flags=[f'--model={tmp_path}/empty'], match='holds no checkpoint')


def test_names_that_do_not_exist(refused, call, config, whole):
  refused(flags=['--only=none'], match='it has few, long, more')
  refused(flags=['--model=none'], match="model='none'")
  refused("c.published = 'none'", match="config.published='none'")
  said = call(f'--config={config()}', f'--judge={whole}', '--judges=x')[1]
  assert '--judges=x: no such judge; the config has known, parity' in said


def test_a_bucket_and_a_strangers_folder(config, tmp_path, call):
  status, said = call(f'--config={config()}', '--out=ftp://x/y')
  assert status == 1 and 'ftp://x/y' in said
  (tmp_path / 'samples').mkdir()
  status, said = call(f'--config={config()}', f'--out={tmp_path}')
  assert status == 1 and 'no settings.json' in said
  (tmp_path / 'settings.json').write_text('[]')
  status, said = call(f'--config={config()}', f'--out={tmp_path}')
  assert status == 1 and 'not the settings of an evaluation' in said


def test_a_run_is_not_written_over(config, tmp_path, call):
  run = tmp_path / 'run'
  (run / 'checkpoints').mkdir(parents=True)
  for words in ((), ('--dry_run',)):
    status, said = call(f'--config={config()}', f'--out={run}', *words)
    assert status == 1 and f'{run}: holds a training run; give anoth' in said
  assert [p.name for p in run.rglob('*')] == ['checkpoints']


def test_command_lines_that_cannot_be_read(call, config, whole):
  for words in (
    (),
    (f'--config={config()}',),
    (f'--config={config()}', '--show=x', '--judge=y'),
    ('--out=x',),
    ('--config=none.py', '--out=x'),
  ):
    status, said = call(*words)
    assert status == exits.USAGE
  assert "--config: No such file or directory: 'none.py'" in said
  said = call(f'--config={config()}', '--config.sed=1', '--out=x')[1]
  assert 'acereason_jax/config/evaluation.py has them all' in said


def test_a_config_of_a_run(folder, tmp_path, call):
  tiny.write(tmp_path)
  status, said = call(f'--config={tmp_path}/tiny_config.py', '--out=x')
  assert status == 1 and 'is it the config of a run?' in said
