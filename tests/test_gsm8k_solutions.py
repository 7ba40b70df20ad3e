"""Stored solutions become rollouts that the judges can read."""

import json

import pytest

from acereason_jax.data import rollouts
from acereason_jax.evaluation import files
from benchmarks import gsm8k_solutions


@pytest.mark.parametrize(
  'text, boxed',
  [
    ('3 * 6 = <<3*6=18>>18\nA: 18', '3 * 6 = <<3*6=18>>18\nA: \\boxed{18}'),
    ('x\nA: 1,800 \n\n', 'x\nA: \\boxed{1,800}'),
    ('A: 7', 'A: \\boxed{7}'),
    # Without an answer they stay as they are.
    ('x\nA:', 'x\nA:'),
    ('A: 7\nor so', 'A: 7\nor so'),
    ('', ''),
  ],
)
def test_only_the_last_line_is_changed(text, boxed):
  assert gsm8k_solutions.boxed(text) == boxed


def test_each_model_gets_a_file_and_each_difference_a_line(tmp_path):
  problems = [('Cats?', '9 + 9 = 18\n#### 18'), ('Dogs?', 'So 1\n#### 100')]
  told = [
    {
      **{'question': question, 'ground_truth': answer.replace('####', 'A:')},
      'small': {'is_correct': i == 0, 'solution': f'So\nA: {18 - 17 * i}'},
      'large': {'is_correct': True, 'solution': 'No idea'},
    }
    for i, (question, answer) in enumerate(problems)
  ]
  stored, test = tmp_path / 'stored.jsonl', tmp_path / 'test.jsonl'
  stored.write_text(''.join(json.dumps(r) + '\n' for r in told))
  test.write_text(
    ''.join(json.dumps(dict(question=q, answer=a)) + '\n' for q, a in problems)
  )
  out = tmp_path / 'out'
  for _ in range(2):
    kept = gsm8k_solutions.write(gsm8k_solutions.solutions(str(stored)), out)
  (tmp_path / 'small.jsonl').write_text('{"id": "mine"}')
  with pytest.raises(ValueError, match='not a file of solutions'):
    gsm8k_solutions.write(iter(kept), tmp_path)
  assert {p.name for p in out.iterdir()} == {'small.jsonl', 'large.jsonl'}
  answers = {p.row.id: p.row.answer for p in files.gsm8k(str(test)).problems}
  read = rollouts.read(str(out / 'small.jsonl'), answers)
  assert [(r.text, r.answer) for r in read] == [
    ('So\nA: \\boxed{18}', '18'),
    ('So\nA: \\boxed{1}', '100'),
  ]
  lines = [*gsm8k_solutions.compare(kept, str(test), workers=1)]
  assert 'strict small: labels 1, right 1, wrong 1' in lines
  assert 'toolkit small: differ 1, labels 1, right 2' in lines
  assert 'strict large: differ 2, labels 2, unparsed 2' in lines
  (hundredfold,) = [line for line in lines if 'reference 100' in line][-1:]
  assert 'label' in hundredfold


def test_a_name_cannot_leave_the_folder(tmp_path):
  bad = [gsm8k_solutions.Solution('../up', 'a', 'x', True)]
  with pytest.raises(ValueError, match='expected the name of a model'):
    gsm8k_solutions.write(iter(bad), tmp_path / 'out')
