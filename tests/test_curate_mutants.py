"""Mutants of programs: by hand, and of hostile programs."""

import ast
import random
import textwrap

import pytest

from acereason_jax.data.curate import mutants

PROGRAM = """
def f(a, b: int | None = None) -> list[int] | None:
  if a < 1 and b:
    return a + 2
  return not a
"""


def test_mutants_of_a_small_program():
  """By hand: every change of every place, and nothing else."""
  one = textwrap.dedent(PROGRAM).strip()
  expected = {
    one.replace('a < 1', 'a <= 1'),
    one.replace('and', 'or'),
    one.replace('a < 1', 'a < 2'),
    one.replace('a < 1 and b', 'True'),
    one.replace('a + 2', 'a - 2'),
    one.replace('a + 2', 'a + 3'),
    one.replace('a + 2', 'None'),
    one.replace('not a', 'None'),
    one.replace('not a', 'not not a'),
  }
  found = {m.text for m in mutants.of(PROGRAM, 50)}
  assert found == {ast.unparse(ast.parse(text)) for text in expected}


def test_places_that_are_left_alone():
  program = """
import sys
sys.setrecursionlimit(10 ** 6)
if __name__ == '__main__':
  print(input())
"""
  assert mutants.of(program, 50) == []


@pytest.mark.parametrize(
  'program',
  [
    'print "x"',
    '\0',
    '(' * 5000,
    'x = ' + '(' * 150 + '1' + ')' * 150,
    'x = ' + '-' * 50000 + '1',
    'x = ' + '+'.join(['1'] * 30000),
    'x = ' + '[' * 5000,
    'x = 0x' + 'f' * 60000,
    'x = 1\n' * 100_000,
    'x = f\'{1}\\n{f"{2}"}\'',
    'if x:\n' + '\n'.join(' ' * i + 'if x:' for i in range(1, 99)),
  ],
)
def test_mutants_of_hostile_programs(program):
  for mutant in mutants.of(program, 50):
    ast.parse(mutant.text)


def test_mutants_are_few_different_and_the_same_each_time():
  rng = random.Random(1)
  lines = [f'x{i} = {rng.randint(0, 9)} + y < 3' for i in range(400)]
  program = '\n'.join(lines)
  found = mutants.of(program, 50)
  assert found == mutants.of(program, 50)
  texts = {m.text for m in found} | {ast.unparse(ast.parse(program))}
  assert len(texts) == 51
  for mutant in found:
    # One line differs: the one that it names.
    pairs = zip(mutant.text.splitlines(), program.splitlines(), strict=True)
    (line,) = [i for i, (a, b) in enumerate(pairs, 1) if a != b]
    assert mutant.change.endswith(f' in line {line}')
  assert {m.text for m in mutants.of(program, 20)} < texts


def test_programs_by_hash():
  programs = [f'print({i})' for i in range(30)]
  found = mutants.some([*programs, 'print 1', *programs], 10)
  assert len(set(found)) == 10
  assert found == mutants.some(programs[::-1], 10)
