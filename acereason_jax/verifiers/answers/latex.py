r"""LaTeX answers as trees: one spelling, tokens, a parser of bounded depth.

It reads the parts of answers: numbers, expressions, tuples, intervals, sets,
lists, matrices, equations, inequalities, units and words. Any other text raises
`Unreadable`; nothing is guessed, and nothing is evaluated.

The parser descends recursively. Each level of binding is a class in grammar/,
a subclass of the level that binds tighter: `Statements` are made of
`Expressions`, these of `Atoms`. Brackets lead back from an atom to the top.
"""

from acereason_jax.verifiers.answers import tokens, tree
from acereason_jax.verifiers.answers.grammar.statements import Statements
from acereason_jax.verifiers.answers.vocabulary import Unreadable


def parse(text: str) -> tree.Node:
  """Returns the tree of a normalised text.

  Raises:
    Unreadable: it is not in the grammar.
    TooLarge: it is too deep.
  """
  parser = Statements(tokens.tokens(text))
  node = parser.answer()
  if parser.peek().kind != 'end of text':
    raise Unreadable(f'unexpected {parser.peek().text!a}')
  return node
