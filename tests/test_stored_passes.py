"""Pass counts in data: how they are read, and that they replace a probe.

The run is a real one in this process, over the tiny model of `tiny`.
"""

import json

import pytest
import runs
import tiny

from acereason_jax import train, types
from acereason_jax.config import checks
from acereason_jax.curriculum import filtering, ledger, outcomes
from acereason_jax.data import rollouts, sources
from acereason_jax.rollout import serve
from acereason_jax.run import build, stored

pytestmark = pytest.mark.usefixtures('compiled_once')
KEY = 'ab' * 32


def write(path, *rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def counts(right, judged, model=KEY, **more):
  return dict(problem='1+1?', answer='2', right=right, judged=judged) | dict(
    more, model=model
  )


@pytest.mark.parametrize(
  'row, expected',
  [
    (counts(3, 8), types.Passes(3, 8, KEY)),
    (counts(0, 8), types.Passes(0, 8, KEY)),
    (counts('3', '8'), types.Passes(3, 8, KEY)),
    (counts(9, 8), None),
    (counts(0, 0), None),
    (counts(-1, 8), None),
    (counts(1.5, 8), None),
    (counts(None, 8), None),
    (counts(True, True), None),
    (counts('yes', '8'), None),
    (counts('9' * 5000, '8'), None),
    # Columns of other people mean other things.
    (counts(3, 8, model='gpt-4'), None),
    (counts(3, 8, model=None), None),
    (dict(problem='1+1?', answer='2', right='b', model=['x']), None),
  ],
)
def test_pass_counts_of_a_row(tmp_path, row, expected):
  (found,) = sources.jsonl(write(tmp_path / 'r.jsonl', row))
  assert found.passes == expected
  bare = sources.jsonl(write(tmp_path / 'b.jsonl', counts(0, 0)))
  # Counts decide which prompts are asked, so another count is other data.
  same = sources.digest([found]) == sources.digest(bare)
  assert same == (expected is None)


def test_the_key_of_a_model_is_that_of_its_weights():
  one, other = dict(model='a'), dict(model='b')
  assert rollouts.model_key(one) != rollouts.model_key(other)
  trained = one | dict(checkpoint='[3, "now"]')
  assert rollouts.model_key(trained) != rollouts.model_key(one)
  # What else determines rollouts is no part of it.
  more = one | dict(temperature=1.0)
  assert rollouts.model_key(more) == rollouts.model_key(one)
  assert rollouts.model_key({}) == rollouts.model_key(dict(model=3)) == ''


# --- a run ------------------------------------------------------------------


@pytest.fixture
def ran(folder, tmp_path, capsys):
  """(what was printed, the ledger) of a run over rows with pass counts."""

  def run(passes, **filter):
    questions = [
      json.loads(line)
      for line in (folder / 'train.jsonl').read_text().splitlines()
    ]
    assert len(questions) == len(passes) == 10
    rows = [
      q | dict(zip(('right', 'judged', 'model'), each))
      for q, each in zip(questions, passes)
    ]
    write(tmp_path / 'rows.jsonl', *rows)
    config = tiny.config(folder)
    config.steps = 1
    config.train_data.path = str(tmp_path / 'rows.jsonl')
    config.filter.update(filter)
    checks.validate(config)
    assert not train.train(build.build(config), tmp_path / 'run')
    ids = [q['id'] for q in questions]
    return capsys.readouterr().out, ids, runs.ledger_of(tmp_path / 'run', 1)

  return run


def key_of(folder):
  """As the header that `generate` writes gives it."""
  weights = serve.from_directory(str(folder / 'model'))
  return rollouts.model_key(weights.digests())


def probes(known):
  return {r.prompt: r for r in known if r.kind == ledger.PROBE}


def test_hard_prompts_need_no_probe_if_their_counts_are_stored(folder, ran):
  key = key_of(folder)
  passes = [(right, 8, key) for right in (0, 1, 2, 3, 4, 5, 6, 7, 8, 3)]
  said, ids, known = ran(passes, of=8, max_solved=3)
  assert '10 of 10 prompts have pass counts of this model' in said
  assert 'asking 10' not in said and 'prompts asked' not in said
  found = probes(known)
  assert [(found[i].right, found[i].judged) for i in ids] == [
    (right, judged) for right, judged, _ in passes
  ]
  trained = {r.prompt for r in known if r.kind == ledger.TRAIN}
  easy = {i for i, (right, *_) in zip(ids, passes) if right > 3}
  assert trained and not trained & easy
  # Counts tell no lengths, so nothing is predicted from them.
  assert set(outcomes.mean_lengths(known)) == trained


def test_only_prompts_without_counts_of_this_model_are_asked(folder, ran):
  key = key_of(folder)
  passes = [
    *[(0, 4, key)] * 3,
    *[(4, 4, KEY)] * 2,  # Of another model.
    *[(1, 2, key)] * 2,  # Too few.
    (3, 3, key),  # Few, but already solved too often to come back.
    *[(None, None, None)] * 2,
  ]
  said, ids, known = ran(passes, of=4, max_solved=2)
  assert '4 of 10 prompts have pass counts of this model' in said
  assert 'asking 6 prompts up to 4 times' in said
  found = probes(known)
  assert list(found) == ids
  stored = [ids[i] for i in (0, 1, 2, 7)]
  for name, record in found.items():
    assert bool(record.tokens) == (name not in stored)
    if name in stored:
      assert record.rollouts == (3 if name == ids[7] else 4)
    else:
      assert 2 <= record.rollouts <= 4


@pytest.mark.parametrize(
  'right, judged, keep_unsolved, asks',
  [
    (0, 16, True, False),
    (7, 7, True, False),
    (6, 15, True, True),
    (6, 16, True, False),
    (0, 9, True, True),
    # 6 more right ones are not too many.
    (0, 10, True, False),
    (1, 11, True, False),
    # It may yet be solved once.
    (0, 10, False, True),
    (1, 11, False, False),
  ],
)
def test_counts_that_decide(right, judged, keep_unsolved, asks):
  rule = filtering.Filter(of=16, max_solved=6, keep_unsolved=keep_unsolved)
  found = stored._decides(rule, types.Passes(right, judged, KEY))
  assert found == (not asks)
