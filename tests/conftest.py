"""Every test runs on four CPU devices; the flags must precede jax."""

import os

import xla_flags

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = xla_flags.flags(devices=4)

import functools
import gc
import pathlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import forked
import jax
import object_store
import properties  # noqa: F401
import pytest
import runs
import tiny
from jax._src import compiler
from jax.experimental.compilation_cache import compilation_cache

from acereason_jax.models import embedded, tokens_process
from acereason_jax.run import reporting_child
from acereason_jax.verifiers.programs import jail, running


@pytest.fixture
def told_to_end() -> Iterator[None]:
  """For tests that signal this process, which would ignore later ones."""
  before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.fixture(scope='session')
def smollm_dir() -> pathlib.Path:
  """The embedded model, a real one; downloads 93 MB where it is not cached."""
  return pathlib.Path(embedded.path('smollm2-135m'))


@pytest.fixture(scope='module', autouse=True)
def collects_soon() -> Iterator[None]:
  """Collections do not look at what the modules before have left: jax's."""
  gc.freeze()
  yield
  gc.unfreeze()


@pytest.fixture(scope='module', autouse=True)
def tokenizers_are_forked(request: pytest.FixtureRequest) -> Iterator[None]:
  """Except where the start of their processes is what is tested."""
  started = tokens_process.subprocess
  if request.module.__name__ not in ('test_children', 'test_tokens'):
    forked.fork_tokenizers()
  yield
  tokens_process.subprocess = started


@pytest.fixture(scope='module', autouse=True)
def runs_write_no_report(request: pytest.FixtureRequest) -> Iterator[None]:
  """Except where that is what is tested."""
  if request.module.__name__ == 'test_reporting_child':
    yield
    return
  before = forked.without_reports()
  yield
  reporting_child.Reporter.begin = before


@pytest.fixture(scope='session')
def compiled(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Where commands keep compiled programs, those of a session for the next."""
  return tmp_path_factory.mktemp('compiled')


@pytest.fixture(scope='module')
def compiled_once(compiled: pathlib.Path) -> Iterator[None]:
  """For modules whose tests compile the same programs over and over."""
  values = dict(
    jax_compilation_cache_dir=str(compiled),
    jax_persistent_cache_min_compile_time_secs=0.0,
  )
  before = {name: getattr(jax.config, name) for name in values}
  for settings in (values, before):
    for name, value in settings.items():
      jax.config.update(name, value)
    # jax looks once where its cache is.
    compilation_cache.reset_cache()
    if settings is values:
      yield


@pytest.fixture(scope='module')
def users_fusions() -> Iterator[None]:
  """For modules that compare bits of two programs: XLA fuses as for users.

  Some of these bits differ where fusions are compiled otherwise (xla_flags.py).
  """
  options = compiler.get_compile_options

  def with_emitters(*args: Any, **kwargs: Any) -> Any:
    found = options(*args, **kwargs)
    own = 'xla_cpu_use_fusion_emitters', True
    found.env_option_overrides = [*found.env_option_overrides, own]
    return found

  # What other modules have compiled is no longer used, and the other way round.
  jax.clear_caches()
  if xla_flags.OLD:
    compiler.get_compile_options = with_emitters
  yield
  compiler.get_compile_options = options
  jax.clear_caches()


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A folder with the tiny model, its data and its configs."""
  path = tmp_path_factory.mktemp('tiny')
  tiny.write(path)
  return path


@pytest.fixture(scope='module')
def command(
  folder: pathlib.Path, compiled: pathlib.Path
) -> Callable[..., runs.Command]:
  """Starts a training command, given its workdir and flags."""
  return functools.partial(runs.Command, folder, compiled)


@pytest.fixture(scope='module')
def store(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[object_store.Store]:
  with object_store.started(tmp_path_factory.mktemp('objects')) as found:
    yield found


@pytest.fixture(scope='module')
def jails() -> Iterator[None]:
  """For modules whose tests run programs in this process's own jails."""
  try:
    running.started_jail('auto')
  except jail.SandboxError as e:
    pytest.skip(f'this host refuses jails: {e}')
  yield
  # Other tests count this process's children.
  for started in vars(running.jails).values():
    started.close()
  vars(running.jails).clear()


def pytest_configure(config: pytest.Config) -> None:
  # A shell's background jobs ignore one of these, nohup's the other, and so
  # would all that the tests start.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  signal.signal(signal.SIGHUP, signal.SIG_DFL)
  config.addinivalue_line('markers', 'parity: runs torch and transformers')
  config.addinivalue_line('markers', 'slow: runs only if asked for: -m slow')
  config.addinivalue_line('markers', 'hosts: runs of several processes')
  config.addinivalue_line('markers', 'sweeps: minutes of jails: -m sweeps')
  config.addinivalue_line('markers', 'abis: the same, as on older kernels')
  config.addinivalue_line('markers', 'browser: a page in a browser')
  config.addinivalue_line('markers', 'nightly: half an hour of decoding')


# The longest first: two processes share the files, and neither should end with
# one of these while the other has nothing left to do.
LONGEST = (
  'test_train',
  'test_evaluate',
  'test_stages',
  'test_generate',
  'test_update',
  'test_engine',
  'test_attention',
  'test_jail',
)


def pytest_collection_modifyitems(
  config: pytest.Config, items: list[pytest.Item]
) -> None:
  order = {name: i for i, name in enumerate(LONGEST)}
  items.sort(key=lambda item: order.get(item.path.stem, len(order)))
  if config.getoption('-m') or any('::' in arg for arg in config.args):
    return  # They were chosen by name.
  for item in items:
    for mark in ('slow', 'hosts', 'sweeps', 'abis', 'browser', 'nightly'):
      if item.get_closest_marker(mark):
        item.add_marker(pytest.mark.skip(f'run it with -m {mark}'))
