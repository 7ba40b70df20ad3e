"""The papers' numbers, typed here from their tables once more."""

import pytest

from acereason_jax.evaluation import published

# As docs/recipe.md and the papers print them: percents by row of a model.
TABLE = """
model               aime24 aime25 math500 hmmt brumo lcb_v5 lcb_v6 elo  pct  plus
r1-distill-qwen-7b  55.5   39.0   92.8    26.3 51.2  37.6   34.1   1189 57.4 80.4
acereason-7b        69.0   53.6   94.1    33.9 62.2  51.8   44.1   1475 84.8 84.6
r1-distill-qwen-14b 69.7   50.2   93.9    31.7 61.1  53.1   47.9   1481 85.6 83.9
acereason-14b       78.6   67.4   95.0    46.4 72.3  61.1   54.9   2024 98.1 85.7
acereason-1.1-7b    72.6   64.8   95.3    42.9 -     57.2   52.1   -    -    84.8
"""  # noqa: E501
COLUMN = {
  **dict(elo='codeforces', pct='codeforces_percentile', plus='evalplus'),
}
# AIME24/AIME25/LCB v5/LCB v6.
ALONG = {
  'acereason-7b-math': '65.9/52.5/44.4/37.6',
  'acereason-7b-code': '66.9/51.7/51.8/44.1',
  'acereason-14b-math': '76.6/63.4/58.6/50.9',
  'acereason-14b-code': '75.7/63.9/61.1/54.9',
}


def test_every_number_is_the_papers():
  head, *lines = TABLE.split('\n')[1:-1]
  columns = [COLUMN.get(name, name) for name in head.split()[1:]]
  assert tuple(columns) == published.COLUMNS
  for line in lines:
    name, *percents = line.split()
    expected = dict(zip(columns, percents, strict=True))
    found = {
      column: f'{score.value:.0f}'
      if column == 'codeforces'
      else f'{score.value * 100:.1f}'
      for column, score in published.row(name).items()
    }
    assert found == {k: v for k, v in expected.items() if v != '-'}
  for name, percents in ALONG.items():
    found = published.row(name)
    assert [*found] == ['aime24', 'aime25', 'lcb_v5', 'lcb_v6']
    text = '/'.join(f'{score.value * 100:.1f}' for score in found.values())
    assert text == percents
  rows = {line.split()[0] for line in lines} | ALONG.keys()
  assert set(published.NAMES) == rows


def test_a_score_tells_its_k_its_error_and_its_source():
  assert published.score('acereason-7b', 'aime24') == published.Score(
    0.69, 64, 0.007, 'arXiv 2505.16400'
  )
  assert published.score('acereason-1.1-7b', 'lcb_v6') == published.Score(
    0.521, 8, None, 'arXiv 2506.13284'
  )
  assert published.score('acereason-7b', 'math500').k == 4
  assert published.score('r1-distill-qwen-7b', 'aime24').error is None
  assert published.score('acereason-1.1-7b', 'brumo') is None
  assert published.score('acereason-7b-math', 'hmmt') is None


@pytest.mark.parametrize(
  'name, column, message',
  [
    ('acereason-32b', 'aime24', 'no such row; give one of r1-distill-qwen-7b'),
    ('acereason-7b', 'aime26', 'no such column; give one of aime24, aime25'),
  ],
)
def test_unknown_names_are_one_line(name, column, message):
  with pytest.raises(ValueError, match=message):
    published.score(name, column)
