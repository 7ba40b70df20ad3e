"""The gradient on meshes of eight devices, of which other tests have four.

    python mesh_update.py

`test_update` runs this; what it asserts is one of its tests.
"""

import test_update

MESHES = [
  ((8, 1, 1, 1), 'dots'),
  ((4, 2, 1, 1), 'attention'),
  ((2, 4, 1, 1), 'block'),
  ((2, 2, 2, 1), 'attention'),
  ((1, 2, 2, 2), 'block'),
]


def main() -> None:
  for sizes, remat in MESHES:
    test_update.check_mesh(sizes, remat, rows=8)


if __name__ == '__main__':
  main()
