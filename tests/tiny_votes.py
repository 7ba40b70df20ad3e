"""A judge that calls texts equal by their first letter, and may fail."""

from acereason_jax.types import Verdict


def verify(response, answer):
  text = given(response)
  if 'late' in (text, answer):
    return Verdict('timeout', '', 0.0)
  if 'raise' in (text, answer):
    raise ValueError('asked to')
  status = 'right' if text[:1] == answer[:1] else 'wrong'
  return Verdict(status, '', 0.0)


def given(response):
  return response.partition('{')[2].removesuffix('}')


verify.given = given
