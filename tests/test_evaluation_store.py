"""The folder of an evaluation: torn lines, shares of processes, settings."""

import json

import pytest

from acereason_jax import types
from acereason_jax.evaluation import samples, settings

KEYS = [
  samples.Key(name, f'p{i}', index)
  for name in ('a', 'b')
  for i in range(10)
  for index in range(3)
]
RIGHT = types.Verdict('right', 'it is', 0.25)
ERROR = types.Verdict('error', 'no worker', 0.5)


def of(n, prompts):
  rows = dict(questions='q', answers='a', missing=[])
  return dict(rows, n=n, prompts=prompts, max_tokens=9)


def about(window, **first_prompts):
  return dict(
    model=dict(name='m', step=None),
    sampling=dict(seed=0),
    engine=dict(window=window),
    first_prompts=first_prompts,
  )


SETTINGS = dict(
  seed=0,
  benchmarks=dict(a=of(4, 'x'), b=of(1, 'y')),
  judges={'a.j': dict(fn='m:f')},
  about=about(5, a=1),
)


def record(text='', length=1):
  return dict(id='whole', index=9, stop='stop', length=length, text=text)


def opened(path, process=0, processes=1, **more):
  return samples.Store(str(path), ['j'], process, processes, **more)


def filled(path, processes=1):
  """Rollouts of all keys, each judged, as that many processes write them."""
  for process in range(processes):
    with opened(path, process, processes, new=SETTINGS) as store:
      for key in KEYS:
        if store.is_mine(key.benchmark, key.id):
          store.write_sample(key, record(f'{key}\n\u2028"'))
          store.write_verdict('j', key, RIGHT)
  return path


def test_what_was_written_is_read(tmp_path):
  with opened(filled(tmp_path / 'out')) as store:
    assert set(store.own) == set(store.verdicts['j']) == set(KEYS)
    assert {store.text(key) for key in KEYS} == {
      f'{key}\n\u2028"' for key in KEYS
    }
    assert store.judge_seconds == 0.25 * len(KEYS)
  assert settings.read(tmp_path / 'out') == SETTINGS


@pytest.mark.parametrize('before, after', [(1, 3), (3, 1), (2, 5), (4, 2)])
def test_processes_share_the_problems(tmp_path, before, after):
  """Each rollout is of one process, with all others of its problem."""
  path = filled(tmp_path / 'out', before)
  found = {}
  for process in range(after):
    with opened(path, process, after) as store:
      for key in store.own:
        assert found.setdefault(key, process) == process
        assert store.text(key).startswith('Key(')
      assert store.own.keys() == store.verdicts['j'].keys()
  assert set(found) == set(KEYS)
  for key in KEYS:
    assert found[key] == found[key._replace(index=0)]


def test_every_place_of_a_torn_line(tmp_path):
  """All whole lines stay, and the next is written after them."""
  path = filled(tmp_path / 'out') / 'samples' / '0.jsonl'
  content = path.read_bytes()
  lines = content.splitlines(keepends=True)
  for size in [0, 1, *range(len(lines[0]) - 2, len(lines[0]) + 3), 700]:
    path.write_bytes(content[:size])
    with opened(tmp_path / 'out') as store:
      whole = content[:size].count(b'\n')
      assert len(store.own) == whole
      store.write_sample(KEYS[-1], record('again'))
      assert store.text(KEYS[-1]) == 'again'
    assert path.read_bytes().startswith(b''.join(lines[:whole]))
    assert path.read_bytes().count(b'\n') == whole + 1


def test_half_a_line_of_another_process_is_not_read(tmp_path):
  path = filled(tmp_path / 'out', 2) / 'samples' / '1.jsonl'
  path.write_bytes(path.read_bytes()[:-5])
  with opened(tmp_path / 'out') as store:
    assert len(store.own) == len(KEYS) - 1


@pytest.mark.parametrize(
  'line',
  [
    '[1]',
    'nothing',
    '{"benchmark": "a"}',
    '{"benchmark": "a", "id": "p", "index": 0, "length": 1, "text": "", '
    '"stop": "never"}',
    '[' * 100_000,
  ],
)
def test_damaged_lines_are_one_line(tmp_path, line):
  path = filled(tmp_path / 'out') / 'samples' / '0.jsonl'
  path.write_text(line + '\n' + path.read_text())
  with pytest.raises(ValueError, match=r'samples/0\.jsonl') as e:
    opened(tmp_path / 'out').__enter__()
  assert '\n' not in str(e.value)


def test_a_verdict_that_judged_replaces_one_that_failed(tmp_path):
  path, key = tmp_path / 'out', KEYS[0]
  for verdicts, status, failed in (
    ([ERROR], 'error', 1),
    ([ERROR], 'error', 2),
    ([RIGHT], 'right', 2),
    ([ERROR], 'right', 3),
  ):
    with opened(path, new=SETTINGS) as store:
      for verdict in verdicts:
        store.write_verdict('j', key, verdict)
      assert store.verdicts['j'][key][:2] == (status, failed)
    with opened(path, new=SETTINGS) as store:
      assert store.verdicts['j'][key][:2] == (status, failed)


def test_the_reason_for_no_answer_is_kept(tmp_path):
  """Cut, and of 'unparsed' only; a later failure does not replace it."""
  path, key = tmp_path / 'out', KEYS[0]
  for verdict in (types.Verdict('unparsed', 'none' * 99, 0.1), ERROR):
    with opened(path, new=SETTINGS) as store:
      store.write_verdict('j', key, verdict)
      assert store.verdicts['j'][key].reason == 'none' * 20
    with opened(path, new=SETTINGS) as store:
      assert store.verdicts['j'][key].reason == 'none' * 20
  with opened(filled(tmp_path / 'other')) as store:
    assert not any(found.reason for found in store.verdicts['j'].values())


def test_two_writers_are_refused(tmp_path):
  with opened(filled(tmp_path / 'out')):
    with pytest.raises(ValueError, match='another process writes it'):
      opened(tmp_path / 'out').__enter__()
    # A look does not disturb.
    with opened(tmp_path / 'out', writes=False) as store:
      assert len(store.own) == len(KEYS)


def test_a_round_forgets_verdicts_by_benchmark(tmp_path):
  path = filled(tmp_path / 'out', 2)
  with opened(path) as store:
    store.change(settings.begun(store.settings, store.settings, ['a.j']))
    assert {key.benchmark for key in store.verdicts['j']} == {'b'}
    store.write_verdict('j', KEYS[0], RIGHT)
  with opened(path) as store:
    assert len(store.verdicts['j']) == len(KEYS) // 2 + 1
    assert len(store.own) == len(KEYS)


def test_a_round_goes_on_until_it_has_ended(tmp_path):
  path = filled(tmp_path / 'out')
  other = dict(SETTINGS, judges={'a.j': dict(fn='m:g')})
  for new, rounds in ((SETTINGS, 1), (SETTINGS, 1), (other, 2), (other, 2)):
    with opened(path) as store:
      store.change(settings.begun(store.settings, new, ['a.j']))
      assert store.settings['rounds'] == {'a.j': rounds}
      assert store.settings['anew'] == ['a.j']
  ended = settings.ended(settings.read(path), ['a.j'])
  assert 'anew' not in ended
  assert settings.begun(ended, ended, ['a.j'])['rounds'] == {'a.j': 3}
  # An ordinary start keeps them.
  kept = settings.merged(path, ended, other)
  assert kept['rounds'] == {'a.j': 2} and kept == ended


def test_settings_are_merged_with_those_that_are_there_now(tmp_path):
  """Not with those that were read before the lock was there."""
  path = filled(tmp_path / 'out')
  fresh = dict(
    SETTINGS, benchmarks=dict(c=of(1, 'z')), judges={'c.j': dict(fn='m:f')}
  )
  with opened(path, new=fresh) as store:
    assert set(store.settings['benchmarks']) == {'a', 'b', 'c'}
  before = (path / 'settings.json').read_bytes()
  with pytest.raises(ValueError, match='seed: 0 -> 1'):
    opened(path, new=dict(fresh, seed=1)).__enter__()
  assert (path / 'settings.json').read_bytes() == before


def test_who_is_refused_changes_nothing(tmp_path):
  with opened(filled(tmp_path / 'out')):
    before = (tmp_path / 'out' / 'settings.json').read_bytes()
    new = dict(SETTINGS, benchmarks=dict(a=of(64, 'x')))
    with pytest.raises(ValueError, match='another process writes it'):
      opened(tmp_path / 'out', new=new).__enter__()
    assert (tmp_path / 'out' / 'settings.json').read_bytes() == before


def test_a_kill_before_the_settings_is_a_new_folder(tmp_path):
  (tmp_path / 'samples').mkdir()
  (tmp_path / 'samples' / '0.jsonl').touch()
  with opened(tmp_path, new=SETTINGS) as store:
    assert store.settings == SETTINGS


def test_a_folder_of_something_else_is_refused(tmp_path):
  """A run's, a user's, or one with something beside empty samples."""
  for name, said in (
    ('run/checkpoints/3/meta.json', 'holds a training run; give another'),
    ('notes/a.txt', "holds a.txt, which is no evaluation's; give another"),
    ('config/config.json', 'holds config.json, which is no evaluation'),
    ('other/samples/step_3.json', 'holds samples, which is no evaluation'),
  ):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.touch()
    folder = tmp_path / path.relative_to(tmp_path).parts[0]
    with pytest.raises(ValueError, match=said):
      opened(folder, new=SETTINGS).__enter__()
    assert not (folder / 'settings.json').exists()
    with pytest.raises(ValueError, match='; give it'):
      settings.read(folder, 'give it')


def test_what_a_start_leaves_early_is_no_obstacle(tmp_path):
  assert settings.read(tmp_path) is None
  (tmp_path / 'samples').mkdir()
  for name in ('samples/3.jsonl', '.settings.json.0a.partial', 'stacks-0.txt'):
    (tmp_path / name).touch()
  assert settings.read(tmp_path) is None


@pytest.mark.parametrize(
  'change', [dict(index=-1), dict(index=True), dict(length=-1)]
)
def test_numbers_that_no_rollout_has(tmp_path, change):
  path = filled(tmp_path / 'out') / 'samples' / '0.jsonl'
  first, *rest = path.read_text().splitlines(keepends=True)
  path.write_text(
    ''.join([json.dumps(json.loads(first) | change), '\n', *rest])
  )
  with pytest.raises(ValueError, match='no rollout'):
    opened(tmp_path / 'out').__enter__()


@pytest.mark.parametrize('seconds', ['NaN', 'Infinity', '-1', '1e999'])
def test_times_that_no_verdict_takes(tmp_path, seconds):
  path = filled(tmp_path / 'out') / 'verdicts' / 'j' / '0.jsonl'
  path.write_text(path.read_text().replace('0.25', seconds, 1))
  with pytest.raises(ValueError, match='no verdict'):
    opened(tmp_path / 'out').__enter__()


def test_a_name_that_is_half_a_character(tmp_path):
  with opened(filled(tmp_path / 'out')) as store:
    store.write_sample(samples.Key('a', '\ud800', 0), record('\udfff'))
  with opened(tmp_path / 'out') as store:
    assert store.text(samples.Key('a', '\ud800', 0)) == '\udfff'


# --- settings ---------------------------------------------------------------


def merged(path, **changes):
  return settings.merged(path, SETTINGS, dict(SETTINGS, **changes))


def test_benchmarks_and_judges_may_be_added(tmp_path):
  new = dict(
    benchmarks=dict(a=of(4, 'x'), c=of(1, 'z')),
    judges={'c.j': dict(fn='m:g')},
    about=about(3, c=3),
  )
  found = merged(tmp_path, **new)
  assert set(found['benchmarks']) == {'a', 'b', 'c'}
  assert set(found['judges']) == {'a.j', 'c.j'}
  assert found['about'] == about(5, a=1, c=3)


def test_n_may_grow_only(tmp_path):
  grown = merged(tmp_path, benchmarks=dict(a=of(5, 'x')))
  assert grown['benchmarks'] == dict(a=of(5, 'x'), b=of(1, 'y'))
  with pytest.raises(ValueError, match=r'benchmarks\.a\.n: 4 -> 3'):
    merged(tmp_path, benchmarks=dict(a=of(3, 'x')))


def test_every_difference_is_named(tmp_path):
  with pytest.raises(ValueError, match='seed: 0 -> 1') as e:
    merged(
      tmp_path,
      seed=1,
      benchmarks=dict(a=of(4, 'other')),
      judges={'a.j': dict(fn='m:h')},
    )
  for part in ('benchmarks.a.prompts: "x" -> "other"', 'another --out'):
    assert part in str(e.value)
  with pytest.raises(ValueError, match=r'--judge=.* asks the judges anew'):
    merged(tmp_path, judges={'a.j': dict(fn='m:h')})


def test_another_model_is_named(tmp_path):
  def of_model(digest, name, step=None):
    told = dict(SETTINGS['about'], model=dict(name=name, step=step))
    return dict(SETTINGS, model=dict(files=digest), about=told)

  old = of_model('1', 'smollm2-135m')
  for new, said in (
    (of_model('2', 'runs/a', 18), 'smollm2-135m, not of runs/a, step 18;'),
    (of_model('2', 'smollm2-135m'), 'smollm2-135m whose files were others;'),
  ):
    with pytest.raises(ValueError, match=f'holds rollouts of {said} give anot'):
      settings.merged(tmp_path, old, new)
  moved = settings.merged(tmp_path, old, of_model('1', 'models/smollm2'))
  assert moved['about']['model']['name'] == 'models/smollm2'


def test_only_the_number_of_rollouts_may_grow(tmp_path):
  judge = lambda n: {'a.j': dict(fn='m:f', arguments=dict(n=n))}
  old = dict(SETTINGS, judges=judge(1))
  with pytest.raises(ValueError, match=r'judges\.a\.j: .*--judge='):
    settings.merged(tmp_path, old, dict(SETTINGS, judges=judge(2)))


def test_settings_are_read_as_they_were_written(tmp_path):
  settings.write(tmp_path, SETTINGS)
  assert settings.read(tmp_path) == SETTINGS
  assert settings.read(tmp_path / 'none') is None
  benchmark = dict(of(1, 'x'), missing='none')
  damaged = json.dumps(dict(SETTINGS, benchmarks=dict(a=benchmark)))
  for text in ('', '[]', '{"benchmarks": {}}', damaged, '[' * 100_000):
    (tmp_path / 'settings.json').write_text(text)
    with pytest.raises(ValueError, match='not the settings'):
      settings.read(tmp_path)
