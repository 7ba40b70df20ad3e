"""The parts of other packages that we use exist, in versions that were tried.

After a package's upgrade, this says what has moved: its name, its version, and
the file that wants it.
"""

import ast
import importlib
import importlib.metadata
import importlib.util
import pathlib
import re
import subprocess
import sys
import types

import packaging.requirements
import pytest
import tiny

from acereason_jax.kernels import attention, pinned

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = 'acereason_jax'
FILES = sorted((ROOT / PACKAGE).rglob('*.py'))
MODULES = ['.'.join(f.relative_to(ROOT).with_suffix('').parts) for f in FILES]
MODULES = [m.removesuffix('.__init__') for m in MODULES]
# Not installed with the project, on every Python.
OPTIONAL = {'tokamax'}
# A module's name in a string, for importlib.
PATH = re.compile(r'(jax|tokamax|flax|optax|orbax|grain)(\.[A-Za-z_]\w*){2,}')


def used(tree):
  """The dotted names of other packages that a file uses."""
  names = {}
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name
        first = alias.name.split('.')[0]
        names[alias.asname or first] = alias.name if alias.asname else first
    elif isinstance(node, ast.ImportFrom):
      for alias in node.names:
        name = f'{node.module}.{alias.name}'
        yield name
        names[alias.asname or alias.name] = name
    elif isinstance(node, ast.Constant) and PATH.fullmatch(str(node.value)):
      yield node.value
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and (chain := dotted(node, names)):
      yield chain


def dotted(node, names):
  parts = []
  while isinstance(node, ast.Attribute):
    parts.append(node.attr)
    node = node.value
  if isinstance(node, ast.Name) and node.id in names:
    return '.'.join([names[node.id], *reversed(parts)])
  return None


def missing(name):
  """The part of a dotted name that is not there; what no module has, passes."""
  first, *rest = name.split('.')
  found, path = importlib.import_module(first), first
  for part in rest:
    if not isinstance(found, types.ModuleType):
      return None
    path = f'{path}.{part}'
    if not hasattr(found, part):
      try:
        importlib.import_module(path)
      except ImportError:
        return path
    found = getattr(found, part, None) or sys.modules[path]
  return None


def lines_of(names):
  """A line a name that is missing: package, version, name, file."""
  versions = importlib.metadata.packages_distributions()
  for file, name in sorted(names):
    first = name.split('.')[0]
    if first in OPTIONAL and importlib.util.find_spec(first) is None:
      continue
    if lost := missing(name):
      package = versions.get(first, [first])[0]
      version = importlib.metadata.version(package)
      yield f'{package} {version} has no {lost}, which {file} uses'


def names_of(files):
  return {
    (str(f.relative_to(ROOT)), name)
    for f in files
    for name in used(ast.parse(f.read_text()))
    if name.split('.')[0] not in {PACKAGE, *sys.stdlib_module_names}
  }


def test_what_is_used_of_other_packages_is_there():
  names = names_of(FILES)
  every = {name for _, name in names}
  assert len(every) > 300
  assert {pinned.SPLASH, pinned.TRITON, pinned.FUSED_SPLASH} <= every
  assert set(pinned.MOSAIC) <= every
  assert 'orbax.checkpoint.args.PyTreeSave' in every
  assert not list(lines_of(names))


def test_what_is_missing_is_a_line():
  names = [('a.py', 'jax.interpreters.none'), ('b.py', 'jax.none.more')]
  version = importlib.metadata.version('jax')
  assert list(lines_of(names)) == [
    f'jax {version} has no jax.interpreters.none, which a.py uses',
    f'jax {version} has no jax.none, which b.py uses',
  ]


def test_private_parts_are_in_few_files():
  """A part with a leading underscore, of any package but this."""
  private = {
    (file, name)
    for file, name in names_of(FILES)
    if any(p.startswith('_') and not p.endswith('_') for p in name.split('.'))
  }
  private_files = 'kernels/pinned', 'hosts/cluster', 'run/bucket'
  files = {f'{PACKAGE}/{f}.py' for f in private_files}
  assert {file for file, _ in private} == files


@pytest.mark.parametrize(
  'kernel, platform, path, plain',
  [
    ('splash', 'tpu', 'SPLASH', 'xla'),
    ('triton', 'gpu', 'TRITON', 'xla'),
    ('mosaic_gpu', 'gpu', 'MOSAIC', 'triton'),
    ('fused_splash', 'tpu', 'FUSED_SPLASH', 'splash'),
  ],
)
def test_a_kernel_whose_module_has_moved(
  monkeypatch, kernel, platform, path, plain
):
  monkeypatch.setattr(pinned, 'has_tokamax', lambda: True)
  monkeypatch.setattr(pinned, 'NEW', True)
  moved = 'jax.experimental.pallas.ops.moved'
  new = (moved,) if path == 'MOSAIC' else moved
  monkeypatch.setattr(pinned, path, new)
  version = importlib.metadata.version('jax')
  with pytest.raises(ValueError) as e:
    attention.choose(kernel, platform, 'bfloat16', '9.0')
  assert str(e.value) == (
    f'attention={kernel!r} needs the module {moved}, which jax {version} does '
    f'not have; or use {plain!r}'
  )
  chosen, _ = attention.choose('auto', platform, 'bfloat16', '9.0')
  assert chosen != kernel


@pytest.mark.slow
def test_importing_everything_warns_of_nothing_and_loads_no_kernel():
  """A CPU needs no deprecated module of another package."""
  code = (
    f'import sys, {", ".join(MODULES)}; '
    'print(*(m for m in sys.modules if ".pallas.ops" in m or "tokamax" in m))'
  )
  done = subprocess.run(
    [sys.executable, '-W', 'error::DeprecationWarning', '-c', code],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == 0, done.stderr
  assert not done.stdout.split()


def test_every_requirement_has_an_upper_bound_that_this_is_within():
  wanted = importlib.metadata.requires(PACKAGE)
  found = [packaging.requirements.Requirement(text) for text in wanted]
  plain = [r for r in found if 'extra' not in str(r.marker)]
  assert len(plain) > 15
  for requirement in plain:
    operators = {s.operator for s in requirement.specifier}
    assert operators & {'<', '=='}, f'{requirement} has no upper bound'
    version = importlib.metadata.version(requirement.name)
    assert version in requirement.specifier, f'{requirement}: has {version}'


def pins(package, extra, name):
  """The versions of `name` that an extra asks for on this Python."""
  found = map(
    packaging.requirements.Requirement, importlib.metadata.requires(package)
  )
  return [
    r.specifier
    for r in found
    if r.name == name and r.marker and r.marker.evaluate(dict(extra=extra))
  ]


def test_a_plan_is_compiled_by_the_libtpu_that_a_pod_gets():
  assert pins(PACKAGE, 'plan', 'libtpu') == pins('jax', 'tpu', 'libtpu') != []
  # [tpu] brings it through jax alone.
  assert not pins(PACKAGE, 'tpu', 'libtpu')


@pytest.mark.slow
def test_a_run_uses_nothing_deprecated(tmp_path):
  """Other packages may warn about their own use of each other."""
  tiny.write(tmp_path)
  done = subprocess.run(
    [
      *(sys.executable, '-W', 'always::DeprecationWarning', '-m'),
      *('acereason_jax.train', f'--config={tmp_path / "tiny_config.py"}'),
      *(f'--workdir={tmp_path / "run"}', '--config.steps=1'),
    ],
    env=tiny.environment(tmp_path / 'compiled'),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert 'DeprecationWarning' in done.stderr  # ml_collections has some.
  warned = [x for x in done.stderr.splitlines() if 'DeprecationWarning' in x]
  assert not [x for x in warned if f'/{PACKAGE}/' in x or 'pallas' in x]
