r"""Groups a problem's wrong answers by the judge's equality.

maj@k of an evaluation and the vote of a curation count these groups.

Right answers are equal to the reference, so they need no class here. Wrong
answers vote together if the judge calls them equal: 1/2, 0.5 and \frac12. A
response without an answer, a truncated one, and one whose judgement failed
abstain.

The judge's equality is not transitive (its decimals are rounded). So each class
has a representative, its first answer, and an answer joins the first class
whose representative it equals. That depends only on the order of answers.

Models write the answers, so only a pool's workers read them. This process only
finds them in responses, as the judge does.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from acereason_jax import resolve, types

# The judges of math read no longer ones.
_MOST_CHARS = 4000
# A response that gives an answer and nothing else.
_RESPONSE = '</think>\\boxed{{{}}}'

Reader = Callable[[str], str | None]


class Judge(Protocol):
  """What compares answers: a `VerifierPool`, or one that remembers."""

  def as_completed(
    self, tasks: Iterable[tuple[Any, str, str]]
  ) -> Iterator[tuple[Any, types.Verdict]]:
    """Yields (key, verdict) for each (key, response, answer)."""


class _Pair(NamedTuple):
  """Two answers to one problem, which may be equal.

  problem: id of the problem.
  text: the later answer.
  head: representative of a class.
  """

  problem: str
  text: str
  head: str


def reader(component: Mapping[str, Any]) -> Reader | None:
  """A function from a response to the answer in it, as the judge finds it.

  `component` is dict(fn='module:verify', **arguments of the judge). The
  function is an attribute of the judge's, given(response, **arguments); None
  for a judge without it, such as that of programs. The reader returns None for
  a response without an answer, which abstains.
  """
  arguments = {k: v for k, v in component.items() if k != 'fn'}
  verify = resolve.resolve(component['fn'], 'judge')
  given = getattr(verify, 'given', None)
  if given is None:
    return None

  def read(response: str) -> str | None:
    text = given(response, **arguments)
    return text if text and len(text) <= _MOST_CHARS else None

  return read


def classes(
  judge: Judge,
  read: Reader,
  answers: Mapping[str, Sequence[str | None]],
) -> dict[str, list[int | None]]:
  """The class of each wrong answer, by problem; None stays None.

  `answers` has what `read` finds in the responses of a problem, by index, with
  None for right ones and for those that abstain. Classes are numbered from 0 in
  the order of their first answers. `judge` is the one of `read`. A
  comparison that fails, such as one that takes too long, is no equality.
  """
  found: dict[str, dict[str, int]] = {name: {} for name in answers}
  left = {
    name: list(dict.fromkeys(text for text in texts if text is not None))
    for name, texts in answers.items()
  }
  number = 0
  # A round compares with one representative of every problem, so that all
  # workers are busy.
  while left := {name: texts for name, texts in left.items() if texts}:
    pairs = [
      _Pair(name, text, texts[0])
      for name, texts in left.items()
      for text in texts[1:]
    ]
    equal = _equal(judge, read, pairs)
    for name, (head, *others) in left.items():
      joins = [t for t in others if _Pair(name, t, head) in equal]
      found[name] |= dict.fromkeys([head, *joins], number)
      left[name] = [t for t in others if t not in found[name]]
    number += 1
  return {
    name: [None if t is None else found[name][t] for t in texts]
    for name, texts in answers.items()
  }


def _equal(judge: Judge, read: Reader, pairs: Sequence[_Pair]) -> set[_Pair]:
  """The pairs that the judge calls equal.

  The head is the reference. If it cannot be one, the other answer is.
  """
  again = set()

  def tasks() -> Iterator[tuple[_Pair, str, str]]:
    for pair in pairs:
      if (response := _response(read, pair.text)) is None:
        again.add(pair)
      else:
        yield pair, response, pair.head

  def swapped() -> Iterator[tuple[_Pair, str, str]]:
    for pair in pairs:
      if pair in again and (response := _response(read, pair.head)) is not None:
        yield pair, response, pair.text

  equal = set()
  for pair, verdict in judge.as_completed(tasks()):
    if verdict.status == 'right':
      equal.add(pair)
    elif verdict.status == 'error':
      again.add(pair)
  for pair, verdict in judge.as_completed(swapped()):
    if verdict.status == 'right':
      equal.add(pair)
  return equal


def _response(read: Reader, text: str) -> str | None:
  """A response in which the judge finds `text`; None if there is none.

  Text from between other marks than those of a box may not fit into one.
  """
  response = _RESPONSE.format(text)
  return response if read(response) == text else None
