"""Problems made of pieces, for measurements and tests of curation.

A text is sentences of other texts with other numbers, so words and lengths are
those of a real data set, and few rows repeat a whole problem.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

_SENTENCE = re.compile(r'[^.?!]+(?:[.?!]+(?=\s|$)|$)')
_NUMBER = re.compile(r'\d+')
_NAMES = (
  *('Ada', 'Boris', 'Chen', 'Dina', 'Emeka', 'Farah', 'Goran', 'Hana', 'Ivo'),
  *('Jonas', 'Kiri', 'Lena', 'Milan', 'Nour', 'Olga', 'Pavel', 'Qiang', 'Rosa'),
)
_THINGS = (
  *('marbles', 'lanterns', 'tiles', 'ropes', 'coins', 'planks', 'beads'),
  *('sacks of rice', 'cards', 'stamps', 'bottles', 'candles', 'baskets'),
)
_PLACES = (
  *('a harbour', 'a mill', 'the market', 'a quarry', 'the school', 'an island'),
  *('a workshop', 'the orchard', 'a tower', 'the library', 'a lighthouse'),
)
_STORIES = (
  '{name} counts {a} {thing} at {place} and gives {b} of them to {other}.',
  'In {place}, {a} {thing} are put into {b} rows of unequal length.',
  'Every {b} days {name} carries {a} {thing} from {place} to {other}.',
  'The price of {thing} at {place} falls by ${b}$ percent to ${a}$ crowns.',
  'Let ${x}$ be the number of {thing} that {name} buys, where ${x} > {b}$.',
  'A rectangle at {place} has sides of ${a}$ and ${b}$ metres.',
  '{other} has $\\frac{{{a}}}{{{b}}}$ times as many {thing} as {name}.',
  'The sequence begins with ${a}, {b}$ and each term is the sum of two before.',
  'Suppose that ${x}^2 - {a}{x} + {b} = 0$ has two roots in {place}.',
  'Points $P$, $Q$ and $R$ are marked with {thing} so that $PQ = {a}$.',
  '{name} and {other} share {a} {thing} in the ratio of {b} to one.',
)
_QUESTIONS = (
  'How many {thing} does {name} have after {b} weeks?',
  'Find the remainder when ${a}^{{{b}}}$ is divided by the number of {thing}.',
  'Compute $\\left(\\frac{{{x}}}{{{b}}}\\right)^2$ for the largest such ${x}$.',
  'What is the least number of {thing} that {other} must bring to {place}?',
  'Determine the area of the triangle, in square metres, that {name} paints.',
  'What fraction of the {thing} is left at {place}?',
)
_SHORT = (
  'Compute $\\frac{{{a}}}{{{b}}} + {x}$ for ${x} = {b}$.',
  'How many {thing} fit into {place}?',
  'Simplify $\\sqrt{{{a}{x}}} - {b}$.',
  'Name the {b} largest divisors of {a}.',
)


def invented(count: int, seed: int) -> list[str]:
  """Problems of our own; one in eight has few words."""
  random = np.random.default_rng(seed)

  def filled(forms: Sequence[str]) -> str:
    name, other = random.choice(_NAMES, 2, replace=False)
    return random.choice(forms).format(
      **dict(name=name, other=other, thing=random.choice(_THINGS)),
      **dict(place=random.choice(_PLACES), x=random.choice([*'xyznkt'])),
      **dict(a=random.integers(2, 10_000), b=random.integers(2, 1000)),
    )

  found = []
  for _ in range(count):
    if random.random() < 1 / 8:
      found.append(filled(_SHORT))
      continue
    told = [filled(_STORIES) for _ in range(random.integers(1, 4))]
    found.append(' '.join((*told, filled(_QUESTIONS))))
  return found


def recombined(
  texts: Sequence[str], count: int, chars: int, seed: int
) -> Iterator[str]:
  """Yields problems of about `chars` characters, of sentences of `texts`."""
  random = np.random.default_rng(seed)
  sentences = [s.strip() for text in texts for s in _SENTENCE.findall(text)]
  sentences = [s for s in dict.fromkeys(sentences) if len(s) > 1]

  def other(match: re.Match[str]) -> str:
    return str(next(numbers))

  numbers = itertools.chain.from_iterable(
    random.integers(1, 10 ** int(random.integers(1, 4)), 4096).tolist()
    for _ in itertools.count()
  )
  for _ in range(count):
    parts: list[str] = []
    while sum(map(len, parts)) < chars - 50:
      parts.append(sentences[random.integers(len(sentences))])
    yield _NUMBER.sub(other, ' '.join(parts))


def _two_thirds(text: str) -> str:
  words = text.split()
  return ' '.join(words[: -(-2 * len(words) // 3)])


def _one_word(text: str) -> str:
  words = text.split()
  plain = [i for i, word in enumerate(words) if word.isalpha()]
  if plain:
    words[plain[len(plain) // 2]] = 'otherwise'
  return ' '.join(words)


# How a problem of a benchmark comes into a training set.
WAYS: dict[str, Callable[[str], str]] = {
  'verbatim': lambda text: text,
  'label before': lambda text: f'Problem 4.1: {text}',
  'no dollars': lambda text: text.replace('$', ''),
  'dfrac and spaces': lambda text: (
    text.replace('\\frac', '\\dfrac ').replace(' ', '  ').replace('{', ' { ')
  ),
  'first two thirds': _two_thirds,
  'upper case': str.upper,
  'no punctuation': lambda text: re.sub(r'[^\w\s]', '', text),
  'one word changed': _one_word,
}
