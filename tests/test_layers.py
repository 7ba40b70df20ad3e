"""Which module may import which, and that every knob is explained.

From the source only, except one look at what the judges really load.
"""

import ast
import graphlib
import itertools
import pathlib
import subprocess
import sys

import pytest
import tiny

from acereason_jax.config import base, checks, curation, evaluation

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = 'acereason_jax'
# A folder, or a file at the top of the package, imports only from those to its
# left, and from itself. What runs from a shell is of 'commands'. The package
# itself, on the very left, has its version.
ORDER = (
  PACKAGE,
  *('types', 'resolve', 'files', 'storage', 'outfile', 'locks', 'hub'),
  *('children', 'parquet_pages', 'machines', 'stand_ins', 'mesh'),
  *('partition', 'checkout', 'console', 'hosts'),
  *('kernels', 'models', 'verifiers', 'rl', 'curriculum', 'data'),
  *('rollout', 'evaluation', 'config', 'run', 'planning', 'reporting'),
  'commands',
)
COMMANDS = (
  *('train', 'generate', 'evaluate', 'curate', 'judge', 'export', 'ledger'),
  'timeline',
  'plan',
  'report',
)
# Only these know of ml_collections.
KNOW_CONFIGS = ('config', 'run', 'planning', 'commands')
WITHOUT_JAX = (
  *('types', 'resolve', 'machines', 'stand_ins', 'verifiers'),
  'models.tokens_worker',
  # A launcher reads configs where jax is not there, or takes long to load.
  'config',
  'reporting',
)
JAX = ('jax', 'jaxlib', 'flax', 'optax', 'orbax', 'grain')


def module_name(file):
  parts = file.relative_to(ROOT).with_suffix('').parts
  return '.'.join(p for p in parts if p != '__init__')


FILES = {module_name(f): f for f in sorted((ROOT / PACKAGE).rglob('*.py'))}
TREES = {name: ast.parse(f.read_text()) for name, f in FILES.items()}
CONFIGS = sorted((ROOT / 'configs').glob('[a-z]*.py'))


def imported(tree):
  """Every module, or module and name, that the file names in an import."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'imports are absolute'
      for alias in node.names:
        name = f'{node.module}.{alias.name}'
        yield name if name in FILES else node.module


def ours(tree):
  return {m for m in imported(tree) if m.split('.')[0] == PACKAGE}


def folder(module):
  first = module.removeprefix(f'{PACKAGE}.').partition('.')[0]
  return 'commands' if first in COMMANDS else first


@pytest.mark.parametrize('name', sorted(FILES.keys() - {PACKAGE}))
def test_a_folder_imports_from_its_left(name):
  assert folder(name) in ORDER, f'{name} is in no folder: add it to ORDER'
  place = ORDER.index(folder(name))
  right = {m for m in ours(TREES[name]) if ORDER.index(folder(m)) > place}
  assert not right, f'{folder(name)} stands left of them in ORDER'


def test_no_import_cycles():
  graph = {name: ours(tree) - {name} for name, tree in TREES.items()}
  order = list(graphlib.TopologicalSorter(graph).static_order())
  assert set(order) >= FILES.keys()


def function_imports(tree):
  functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
  for function in ast.walk(tree):
    if isinstance(function, functions):
      for node in ast.walk(function):
        if isinstance(node, ast.Import | ast.ImportFrom):
          yield node.lineno


def test_no_imports_inside_functions():
  files = [
    p for d in ('configs', 'tests', 'launch') for p in ROOT.glob(f'{d}/**/*.py')
  ]
  trees = TREES | {module_name(f): ast.parse(f.read_text()) for f in files}
  found = [
    f'{name}:{line}'
    for name, tree in trees.items()
    for line in function_imports(tree)
  ]
  assert not found


def test_the_floor_and_the_judges_never_name_jax():
  """Nor does anything of ours that they import."""
  reached = set()
  todo = [
    n for n in FILES if n.removeprefix(f'{PACKAGE}.').startswith(WITHOUT_JAX)
  ]
  assert len(todo) >= 5
  while todo:
    name = todo.pop()
    reached.add(name)
    others = set(imported(TREES[name]))
    assert not {m for m in others if m.split('.')[0] in JAX}, name
    todo += (others & FILES.keys()) - reached


def test_loading_the_judges_loads_no_jax():
  names = [n for n in FILES if f'{PACKAGE}.verifiers' in n]
  code = f'import sys, {", ".join(names)}; print(*sys.modules)'
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT
  )
  loaded = done.stdout.split()
  assert f'{PACKAGE}.verifiers.pool' in loaded, done.stderr
  assert not {m.split('.')[0] for m in loaded} & set(JAX)


@pytest.mark.parametrize('name', sorted(FILES.keys() - {PACKAGE}))
def test_who_knows_of_configs(name):
  found = {
    m for m in imported(TREES[name]) if m.split('.')[0] == 'ml_collections'
  }
  assert folder(name) in KNOW_CONFIGS or not found


def knobs(tree):
  """(name, line) of every field that `c.x = ...` lines give a value."""
  for node in ast.walk(tree):
    match node:
      case ast.Assign([ast.Attribute(attr=name)], ast.Call(keywords=words)):
        yield from ((f'{name}.{w.arg}', w.value.lineno) for w in words)
      case ast.Assign([ast.Attribute(attr=name)]):
        yield name, node.lineno


def test_every_knob_has_a_comment():
  """At most four lines above it, with no empty line between."""
  lines = pathlib.Path(base.__file__).read_text().splitlines()
  fields = list(knobs(ast.parse('\n'.join(lines))))
  assert len(fields) > 35
  for name, line in fields:
    block = itertools.takewhile(str.strip, reversed(lines[: line - 1]))
    near = [text.strip() for text in itertools.islice(block, 4)]
    explained = any(text.startswith('#') for text in near)
    # The docstring explains `fn`.
    assert explained or name.endswith('.fn'), f'config/base.py:{line}: {name}'


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_every_config_is_valid(path, tmp_path):
  config = tiny.shipped(path.stem).get_config()
  assert config.is_locked
  assert ast.get_docstring(ast.parse(path.read_text()))
  if path.stem.startswith('eval_'):
    assert evaluation.plan(config).benchmarks
    return
  if path.stem.startswith('curate_'):
    assert curation.plan(config).rules
    return
  if path.stem == 'base':
    # Not a run by itself: it names no model.
    with pytest.raises(ValueError, match=r"config\.model=''"):
      checks.validate(config)
    config.model = 'somewhere'
  checks.validate(config)


def test_the_tiny_config_of_these_tests_is_valid(tmp_path):
  checks.validate(tiny.config(tmp_path))
