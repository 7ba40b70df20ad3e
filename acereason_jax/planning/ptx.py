"""Registers and spills of CUDA kernels, by ptxas' report on what XLA dumped.

Needs `pip install 'jax[cuda12]'`. Two versions may be installed: the plugin's
compiler and this assembler both come from the wheels.
"""

import os
import pathlib
import re
import subprocess
import sysconfig


def usage(
  directory: str | os.PathLike, pattern: str
) -> dict[str, dict[str, int]]:
  """The resources of the kernels of a dump whose names match `pattern`.

  By 'module:kernel': `registers` per thread, and bytes of `spill_stores`,
  `spill_loads` and `stack`.

  Raises:
    FileNotFoundError: no kernel matches. One that XLA replaced must not count
      as one without spills.
  """
  found = {}
  for path in sorted(pathlib.Path(directory).glob('*.ptx')):
    text = path.read_text()
    names = re.findall(r'\.entry\s+(\w+)', text)
    names = [name for name in names if re.search(pattern, name)]
    if not names:
      continue
    log = _ptxas(path, re.search(r'^\.target\s+(\w+)', text, re.M)[1])
    for name in names:
      found[f'{path.stem}:{name}'] = _parse(log[log.index(f"'{name}'") :])
  if not found:
    raise FileNotFoundError(f'no kernel like {pattern!r} in {directory}')
  return found


def _ptxas(path: pathlib.Path, arch: str) -> str:
  # The assembler of the nvidia-cuda-nvcc wheel, a namespace package.
  wheels = pathlib.Path(sysconfig.get_path('purelib'), 'nvidia')
  ptxas = wheels / 'cuda_nvcc' / 'bin' / 'ptxas'
  command = [ptxas, '-v', f'-arch={arch}', '-o', os.devnull, path]
  return subprocess.run(
    command, capture_output=True, text=True, check=True
  ).stderr


def _parse(log: str) -> dict[str, int]:
  patterns = {
    'registers': r'Used (\d+) registers',
    'spill_stores': r'(\d+) bytes spill stores',
    'spill_loads': r'(\d+) bytes spill loads',
    'stack': r'(\d+) bytes stack frame',
  }
  return {k: int(re.search(v, log)[1]) for k, v in patterns.items()}
