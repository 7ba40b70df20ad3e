"""The names of files of rollouts, and the codes of a token's numbers."""

import numpy as np
import pytest

from acereason_jax.data import archive


@pytest.mark.parametrize(
  'name, want',
  [
    ('00000017.parquet', (17, 'train')),
    ('00000017-heldout.parquet', (17, 'heldout')),
    ('00000000-before.parquet', (0, 'before')),
    ('00000017-probe.parquet', (17, 'probe')),
    ('123456789.parquet', (123456789, 'train')),
    ('17.parquet', None),
    ('00000017-train.parquet', None),
    ('texts/00000017.parquet', None),
    ('.00000017.parquet.1.partial', None),
    ('00000017.parquet\n', None),
    ('\u0661' * 8 + '.parquet', None),
  ],
)
def test_names(name, want):
  got = archive.place(name)
  assert got == want
  assert got is None or got.name == name


@pytest.mark.parametrize(
  'scale', [archive.SURPRISE, archive.ENTROPY, archive.MISMATCH]
)
def test_codes_are_of_their_bin(scale):
  values = np.concatenate([[0.0], np.geomspace(scale.unit, scale.most, 999)])
  codes = scale.codes(values)
  back = scale.values(codes)
  top = np.log1p(scale.most / scale.unit) / 255
  assert np.all(np.diff(codes.astype(int)) >= 0)
  assert back[0] == 0 and codes[0] == 0 and codes[-1] == 255
  # Half a bin, on the scale.
  gap = np.abs(np.log1p(back / scale.unit) - np.log1p(values / scale.unit))
  assert gap.max() <= top / 2 + 1e-9
  odd = scale.codes(np.array([np.nan, -1.0, np.inf, 1e30]))
  assert odd.tolist() == [0, 0, 255, 255]
