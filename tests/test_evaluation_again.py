"""Responses of a file and --judge, without a model: kills, edits, strangers."""

import json
import signal
import threading

import called
import forked
import pytest
import tiny

from acereason_jax import evaluate
from acereason_jax.console import exits

GUARD = 300
CONFIG = """
from acereason_jax.config import evaluation

MATH = 'acereason_jax.verifiers.math:'

def get_config():
  c = evaluation.get_config()
  c.judge.workers = 1
  few = evaluation.benchmark(
    data=dict(fn='acereason_jax.evaluation.files:rows_of', paths=({data!r},)),
    n=3,
    judges=dict(
      strict=evaluation.judge(MATH + 'verify', reference=MATH + 'reference'),
      toolkit=evaluation.judge('acereason_jax.verifiers.lenient:verify'),
    ),
  )
  c.benchmarks.few = few
{lines}
  return c
"""
# Judges a response in a quarter of a second, and finds it wrong.
SLOW = "few.judges.toolkit.verify = dict(fn='tiny_judge:sleeps')"


@pytest.fixture
def place(tmp_path):
  rows = [dict(id=f'p{i}', problem=f'{i}+{i}?', answer=f'{2 * i}') for i in R]
  write(tmp_path / 'data.jsonl', rows)
  write(tmp_path / 'r.jsonl', responses())
  return tmp_path


R = range(4)


def responses():
  return [
    dict(id=f'p{i}', index=k, text=rf'</think> \boxed{{{2 * i + k // 2}}}')
    for i in R
    for k in range(3)
  ]


def write(path, records):
  path.write_text(''.join(json.dumps(r) + '\n' for r in records))
  return path


def config(place, *lines):
  """Words for the command; the path of the config depends on its lines."""
  path = place / f'config_{len(list(place.glob("config_*.py")))}.py'
  body = '\n'.join(f'  {line}' for line in lines)
  data = str(place / 'data.jsonl')
  path.write_text(CONFIG.format(data=data, lines=body))
  return f'--config={path}'


@pytest.fixture
def call(capsys, monkeypatch):
  """(exit status, what was said) of the command in this process."""
  return called.by(evaluate, capsys, monkeypatch)


@pytest.fixture
def judged(place, call):
  """The folder of responses that were judged."""
  out = place / 'out'
  words = f'--rollouts={place}/r.jsonl', f'--out={out}'
  assert call(config(place), *words)[0] == 0
  return out


def results_of(out):
  found = json.loads((out / 'results.json').read_text())
  del found['cost']
  return found


def lines_of(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def averages(out):
  entries = results_of(out)['benchmarks']['few']
  return {judge: entry['avg'] for judge, entry in entries.items()}


# --- --judge ----------------------------------------------------------------


def test_judges_are_asked_anew_without_a_config(judged, call):
  assert averages(judged) == dict(strict=2 / 3, toolkit=2 / 3)
  before = results_of(judged)
  for words in (
    (f'--judge={judged}',),
    ('--judge', judged, '--judges=strict'),
    (f'--judge={judged}', '--judges=strict,toolkit'),
  ):
    assert call(*words)[0] == 0
    assert results_of(judged) == before
  # Each round has asked for every verdict.
  rounds = [v.get('round', 0) for v in lines_of(judged / VERDICTS)]
  assert [rounds.count(i) for i in range(5)] == [12, 12, 12, 12, 0]


VERDICTS = 'verdicts/strict/0.jsonl'


def test_a_changed_judge_is_kept(judged, place, call):
  other = config(place, "few.judges.toolkit.verify.fn = MATH + 'explain'")
  assert call(other, f'--judge={judged}', '--judges=toolkit')[0] == 0
  name = results_of(judged)['judges']['few.toolkit']['fn']
  assert name.endswith('math:explain')
  assert call(f'--judge={judged}')[0] == 0
  assert results_of(judged)['judges']['few.toolkit']['fn'] == name


@pytest.mark.parametrize(
  'old, new',
  [
    ('acereason_jax.verifiers.lenient:verify', 'os:system'),
    ('acereason_jax.verifiers.math:reference', 'tiny_judge:reference'),
    ('acereason_jax.evaluation.files:rows_of', 'acereason_jax.storage:remove'),
    (
      'acereason_jax.evaluation.files:rows_of',
      'acereason_jax.evaluation.files:records.os.remove',
    ),
    (
      'acereason_jax.evaluation.files:rows_of',
      'acereason_jax.evaluation.files:rows',
    ),
    (
      'acereason_jax.verifiers.lenient:verify',
      'acereason_jax.verifiers.lenient:_timed',
    ),
  ],
)
def test_a_folder_names_no_function_of_others(judged, call, old, new):
  path = judged / 'config.json'
  content = path.read_text()
  assert old in content
  path.write_text(content.replace(old, new))
  status, said = call(f'--judge={judged}')
  assert status == 1 and f'names {new!r}' in said and '--config' in said


def test_a_source_inside_a_source_is_checked_too(judged, call):
  path = judged / 'config.json'
  made = json.loads(path.read_text())
  data = made['benchmarks']['few']['data']
  data['paths'] = [dict(fn='os:getcwd')]
  path.write_text(json.dumps(made))
  assert "names 'os:getcwd'" in call(f'--judge={judged}')[1]


@pytest.mark.parametrize(
  'content', ['', '[]', '{"benchmarks": 3}', '{"benchmarks": {"a": 3}}']
)
def test_a_damaged_config_is_one_line(judged, call, content):
  (judged / 'config.json').write_text(content)
  assert call(f'--judge={judged}')[0] == 1
  (judged / 'config.json').unlink()
  assert 'give the --config' in call(f'--judge={judged}')[1]


def test_other_answers_ask_all_judges(judged, place, call):
  rows = lines_of(place / 'data.jsonl')
  write(place / 'data.jsonl', [r | dict(answer='1') for r in rows])
  status, said = call(f'--judge={judged}', '--judges=strict')
  assert status == 1 and 'few has other answers' in said
  assert averages(judged) == dict(strict=2 / 3, toolkit=2 / 3)
  assert call(f'--judge={judged}')[0] == 0
  assert averages(judged) == dict(strict=1 / 12, toolkit=1 / 12)


def test_no_judge_gives_some_verdicts_before_and_some_after(
  judged, place, call
):
  """Whose settings have changed, and who is not asked anew."""
  path = judged / 'verdicts' / 'toolkit' / '0.jsonl'
  path.write_text(''.join(path.read_text().splitlines(keepends=True)[1:]))
  other = config(place, "few.judges.toolkit.verify.fn = MATH + 'verify'")
  status, said = call(other, f'--judge={judged}', '--judges=strict')
  assert status == 1 and 'few.toolkit: has other settings' in said
  assert 'no verdict on 1 ' in said


class Command:
  """A command that sends itself a signal, in a process of its own."""

  def __init__(self, place, *words):
    self.process = forked.command(
      [str(tiny.TESTS / 'signalled.py'), *words],
      tiny.environment(place / 'compiled', 1),
    )
    self._guard = threading.Timer(GUARD, self.process.kill)
    self._guard.daemon = True
    self._guard.start()

  def ends(self):
    said = self.process.communicate()[0]
    self._guard.cancel()
    assert 'Traceback' not in said, said
    return self.process.returncode, said


def test_killed_while_judges_are_asked_anew(judged, place, call):
  """Old results stay until the new ones are there; nothing is asked twice."""
  slow, before = config(place, SLOW), results_of(judged)
  path = judged / 'verdicts' / 'toolkit' / '0.jsonl'
  # Of 24 verdicts, the other judge has 12.
  for number, count, status in (
    (signal.SIGKILL, '14', -signal.SIGKILL),
    (signal.SIGTERM, '5', exits.STOPPED),
  ):
    words = number.name, count, 'verdicts', slow, f'--judge={judged}'
    found, said = Command(place, *words).ends()
    assert found == status, said
    assert results_of(judged) == before
  assert 'the same command goes on' in said
  assert call(slow, f'--judge={judged}')[0] == 0
  assert averages(judged) == dict(strict=2 / 3, toolkit=0.0)
  rounds = [v.get('round', 0) for v in lines_of(path)]
  assert [rounds.count(i) for i in range(3)] == [12, 12, 0]


# --- responses of a file ----------------------------------------------------


def test_a_file_can_be_corrected(place, call):
  """Nothing is written before all of it was read."""
  good = (place / 'r.jsonl').read_text()
  bad = place / 'bad.jsonl'
  words = config(place), f'--rollouts={bad}', f'--out={place}/out'
  lines = good.splitlines(keepends=True)
  for line in ('{"id": "p0"\n', '{"id": "no", "index": 0, "text": ""}\n'):
    bad.write_text(''.join([*lines[:5], line, *lines[5:]]))
    status, said = call(*words)
    assert status == 1 and 'bad.jsonl:6' in said
    assert not (place / 'out').exists()
  bad.write_text(good)
  assert call(*words)[0] == 0
  assert averages(place / 'out') == dict(strict=2 / 3, toolkit=2 / 3)


def test_rollouts_that_are_not_there_are_counted(place, call):
  file = write(place / 'some.jsonl', responses()[:4])
  out = place / 'out'
  words = config(place), f'--rollouts={file}', f'--out={out}'
  status, said = call(*words)
  assert status == 0 and '4 of 12 rollouts given' in ' '.join(said.split())


def test_a_judge_that_does_not_start_leaves_nothing(place, call):
  words = f'--rollouts={place}/r.jsonl', f'--out={place}/out'
  broken = config(place, "few.judges.toolkit.verify.fn = MATH + 'nothing'")
  assert call(broken, *words)[0] == 1
  assert call(config(place), *words)[0] == 0


def test_lines_that_a_user_added(judged, place, call):
  """Of no problem, no benchmark, no index, no rollout: they change nothing."""
  before, path = results_of(judged), judged / 'samples' / '0.jsonl'
  first = lines_of(path)[0]
  changes = (
    *(dict(index=7), dict(id='who\n\u2028'), dict(id='\ud800')),
    *(dict(benchmark='../..'), dict(text='again')),
  )
  with path.open('a') as file:
    for change in changes:
      file.write(json.dumps(first | change) + '\n')
  verdict = lines_of(judged / VERDICTS)[0]
  with (judged / VERDICTS).open('a') as file:
    for change in (dict(index=2, id='p9'), dict(index=5), dict(id='\udfff')):
      file.write(json.dumps(verdict | change | dict(status='error')) + '\n')
  words = config(place), f'--rollouts={place}/r.jsonl', f'--out={judged}'
  assert call(*words)[0] == 0
  assert results_of(judged) == before


@pytest.mark.parametrize('line', ['{"seconds": NaN}', '{"tokens": 1e999}', '['])
def test_costs_that_no_start_has(judged, place, call, line):
  with (judged / 'starts.jsonl').open('a') as file:
    file.write(f'{line}\n')
  assert call(f'--judge={judged}')[0] == 0
  assert call(f'--show={judged}')[0] == 0


# --- other commands ---------------------------------------------------------


def test_a_comparison_is_printed_whatever_can_be_written(judged, call):
  (judged / 'compare.json').mkdir()
  for b in (judged, judged / 'results.json'):
    status, said = call('--compare', judged, b)
    assert status == 0 and 'compare.json is not written' in said
    assert 'few' in said
  (judged / 'compare.json').rmdir()
  words = '--compare', judged / 'results.json', judged / 'results.json'
  own = judged / 'compare.json'
  own.write_text('{"mine": 1}')
  status, said = call(*words)
  assert status == 0 and 'compare.json is not written: --compare: ' in said
  assert own.read_text() == '{"mine": 1}'
  own.unlink()
  for _ in range(2):
    assert 'not written' not in call(*words)[1]
    assert json.loads(own.read_text())['schema'] == 1


def test_flags_of_no_use_are_refused(judged, place, call):
  for words in (
    (f'--judge={judged}', '--dry_run'),
    (f'--judge={judged}', '--model=x'),
    (f'--show={judged}', '--judges=strict'),
    (config(place), f'--out={place}/x', '--judges=strict'),
    (config(place), '--rollouts=x', '--out=y', '--processes=2'),
  ):
    status, said = call(*words)
    assert status == exits.USAGE and 'of no use with' in said


def test_what_cannot_be_judged_is_one_line(place, call):
  for words, part in (
    (('--judge=gs://bucket/x',), '--judge=gs://bucket/x'),
    ((f'--judge={place}/none',), 'none'),
    ((f'--judge={place}/data.jsonl',), 'data.jsonl'),
    ((f'--show={place}',), 'results.json'),
    ((f'--show={place}/no',), 'no: no such folder; give what --out was'),
    (('--compare', place / 'no', place), 'no: no such folder; give what'),
  ):
    status, said = call(*words)
    assert status == 1 and part in said


def test_two_folders_are_compared(judged, call):
  for words in (('--compare', judged), ('--compare', judged, judged, judged)):
    status, said = call(*words)
    assert status == exits.USAGE
    assert 'give two folders, as in --compare evals/base evals/trained' in said


def test_a_run_is_not_written_over(place, call):
  run = place / 'run'
  (run / 'checkpoints').mkdir(parents=True)
  (run / 'config.json').write_text('of the run')
  before = sorted(run.rglob('*'))
  rollouts = f'--rollouts={place}/r.jsonl'
  for words in ((rollouts, f'--out={run}'), (f'--judge={run}',)):
    status, said = call(config(place), *words)
    assert status == 1 and f'{run}: holds a training run; give' in said
  assert sorted(run.rglob('*')) == before
  assert (run / 'config.json').read_text() == 'of the run'
