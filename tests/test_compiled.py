"""Programs of a stage, compiled ahead of time, and what the compiler says."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest
import tiny

from acereason_jax import machines
from acereason_jax.config import base
from acereason_jax.models import families
from acereason_jax.planning import compiled, compiler, topologies
from acereason_jax.run import calls

# Any file of that folder.
CONFIGS = str(pathlib.Path(__file__).parent.parent / 'configs' / 'base.py')
CPU = machines.hardware('cpu:1')
HERE = jax.sharding.SingleDeviceSharding(jax.devices()[0])
DECODES = 'decode', 'heldout_decode'


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  folder = tmp_path_factory.mktemp('compiled')
  tiny.write_model(folder / 'model')
  c = tiny.config(folder)
  # A program of its own for held-out questions.
  c.heldout.top_p = 0.9
  return c


@pytest.fixture(scope='module')
def programs(config):
  only = *DECODES, 'zeros', 'apply'
  return {p.name: p for p in compiled.compiled(config, CPU, 'main', only=only)}


def test_bytes_are_those_of_the_arrays(programs):
  specs = families.from_config(tiny.LLAMA).specs
  sizes = []
  families.base.map_specs(lambda s: sizes.append(4 * np.prod(s.shape)), specs)
  params = sum(sizes)
  assert [p.problem for p in programs.values()] == [''] * 4
  # Gradients, and six scalars.
  assert 0 <= programs['zeros'].outputs - params <= 1024
  # Parameters, AdamW's two moments, its count and that of steps.
  assert 0 <= programs['apply'].donated - 3 * params <= 1024
  # The pool: layers, pages, kv heads, keys and values, tokens, head dim.
  # A slot has 3 pages for a prompt of 12 and 2 for a response of 8; one page is
  # nobody's.
  pages = 4 * (3 + 2) + 1
  assert programs['decode'].donated == 4 * 2 * pages * 2 * 2 * 4 * 8


def test_what_is_donated_is_used_again(programs):
  for name in DECODES:
    assert programs[name].aliased == programs[name].donated


def test_what_stays_on_the_device_counts(programs):
  # One CPU's rollouts read layers that are apart, but the state's embedding and
  # last norm.
  shared = 4 * (tiny.LLAMA['vocab_size'] + 1) * tiny.LLAMA['hidden_size']
  beside = programs['apply'].donated - shared
  assert programs['apply'].beside == 0
  for name in DECODES:
    assert beside - 64 <= programs[name].beside <= beside + 64
    assert programs[name].need == programs[name].own + programs[name].beside
    assert programs[name].fits
  assert not programs['decode']._replace(room=programs['decode'].need - 1).fits


def test_neither_training_nor_top_p_sorts(programs):
  assert programs['decode'].sorted == 0
  assert programs['heldout_decode'].sorted == 0


def test_a_refused_config_is_one_line(config):
  with pytest.raises(ValueError, match='no stage other; the stages are main'):
    list(compiled.compiled(config, CPU, 'other'))


@pytest.mark.parametrize('name', ['acereason_7b', 'quickstart', 'dapo'])
def test_the_compiling_process_gets_the_config_as_it_is(name):
  config = base.beside(CONFIGS, name).get_config()
  order = compiled.Order(config, 'cpu:1', 'main', ('add',), ('zeros',), '/x')
  received = compiled.Order.from_json(order.to_json())
  assert received.config.to_dict() == config.to_dict()
  assert received.hardware == order.hardware and received.dumps == order.dumps
  assert [*received.only] == ['add'] and [*received.done] == ['zeros']


def test_machines_that_nothing_compiles_for(config, monkeypatch):
  a100 = machines.hardware('a100:8')
  with pytest.raises(ValueError, match='a100: no description'):
    list(compiled.compiled(config, a100, 'main'))
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  v5e = machines.hardware('v5e:2x2')
  with pytest.raises(ValueError, match=r"pip install 'acereason_jax\[plan\]'"):
    list(compiled.compiled(config, v5e, 'main'))


class Once:
  """A jitted function that can be traced once."""

  def __init__(self, function):
    self.function, self.traced = function, 0

  def trace(self, *arguments):
    self.traced += 1
    assert self.traced == 1
    return self.function.trace(*arguments)


def test_a_program_is_traced_once(tmp_path):
  """tokamax's kernels for GPUs are refused outside of `tokamax_elsewhere`."""
  function = Once(jax.jit(lambda x, y: (x + y, y.sum()), donate_argnums=0))
  x = jax.ShapeDtypeStruct((8, 4), np.float32, sharding=HERE)
  call = calls.Call(function, (x, x))
  program = compiler.report('add', call, CPU, 0, 1 << 30, 2, str(tmp_path))
  assert not program.problem
  assert program.donated == program.aliased == 4 * 8 * 4


def test_a_crash_of_the_compiler_ends_one_program(config, monkeypatch):
  """The next process does what is left, but not what crashed."""
  orders = []

  def lines(order, environment):
    orders.append(order)
    names = [n for n in ('a', 'b', 'c') if n not in order.done]
    yield dict(left=names)
    yield compiled.Program(names[0], seconds=1.0)._asdict()
    if names[0] == 'a':
      yield dict(ended='a fatal error')

  monkeypatch.setattr(compiled, '_lines', lines)
  found = list(compiled.compiled(config, CPU, 'main'))
  assert [(p.name, p.problem) for p in found] == [
    ('a', ''),
    ('b', 'the compiler crashed: a fatal error'),
    ('c', ''),
  ]
  assert len(orders) == 2


def test_environments_keep_the_flags_of_the_run():
  v5e, h100 = machines.hardware('v5e:2x2'), machines.hardware('h100:8')
  made = topologies.environment(v5e, '/dumps', None)
  assert made['LIBTPU_INIT_ARGS'].startswith(
    v5e.kind.flags['LIBTPU_INIT_ARGS'] + ' --xla_jf_dump_to=/dumps '
  )
  assert topologies.environment(v5e, None, {})['LIBTPU_INIT_ARGS'] == ''
  made = topologies.environment(h100, '/dumps', {'XLA_FLAGS': '--own'})
  assert made['XLA_FLAGS'] == '--own --xla_dump_to=/dumps'


@pytest.mark.nightly
@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='needs acereason_jax[plan]'
)
def test_programs_of_a_pod_write_no_pool_anew():
  """Each would take the memory that the pool was given."""
  c = base.get_config()
  c.model = 'smollm2-135m'
  c.engine.update(slots=16, pages=2048)
  c.rollout.max_tokens = 4096
  c.microbatch.columns = 8192
  v5e = machines.hardware('v5e:2x2')
  only = 'prefill', 'decode'
  found = list(compiled.compiled(c, v5e, 'main', only=only))
  assert [p.name for p in found] == [*only]
  for program in found:
    assert not program.problem
    assert program.aliased == program.donated
    assert program.temporaries < program.donated / 2
    assert not program.slices
