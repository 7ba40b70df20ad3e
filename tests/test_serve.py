"""One way from a model to an engine, whether a directory or a run holds it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType

from acereason_jax import export
from acereason_jax import mesh as mesh_lib
from acereason_jax.curriculum import ledger, parquet
from acereason_jax.models import base, decoder, hf, lora
from acereason_jax.rl import update
from acereason_jax.rollout import programs, sampling, serve
from acereason_jax.run import saving, weights

SPECS = decoder.param_specs(decoder.DecoderConfig.from_hf(tiny.LLAMA))
FULL = dict(rank=0, alpha=16.0, on='layers.*')
ADAPTERS = dict(rank=2, alpha=4.0, on='layers.[qo]')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  return tiny.write_model(tmp_path_factory.mktemp('tiny') / 'model')


def drawn(parts, step):
  """Parameters without a zero, an adapter's either."""
  key = jax.random.key(step)
  return jax.tree.map(
    lambda x: x + jax.random.normal(key, x.shape),
    base.init_params(parts.trained, key),
  )


def save_run(workdir, model, own, *steps, dtype='float32'):
  """A run's folder with checkpoints whose parameters are drawn at random."""
  parts = lora.split(SPECS, **own)
  data = dict(model=hf.model_digest(str(model))) if parts.frozen else {}
  config = dict(model=str(model), dtype=dtype, lora=own)
  with saving.Checkpoints(workdir, keep=len(steps)) as checkpoints:
    for step in steps:
      checkpoints.save(
        step,
        update.TrainState(drawn(parts, step), {}, jnp.int32(step)),
        dict(step=step),
        dict(config=config, data=data),
        parquet.to_bytes(ledger.Ledger()),
      )
  (workdir / 'config.json').write_text(json.dumps(config))
  return workdir


@pytest.fixture(scope='module')
def runs(model, tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  return {
    'full': save_run(folder / 'full', model, FULL, 3, 5),
    'adapters': save_run(folder / 'adapters', model, ADAPTERS, 5),
  }


def assert_equal(tree, other):
  assert jax.tree.structure(tree) == jax.tree.structure(other)
  for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(other)):
    assert x.dtype == y.dtype
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize('kind', ['full', 'adapters'])
@pytest.mark.parametrize('name', ['float32', 'bfloat16'])
def test_a_run_serves_what_its_export_serves(runs, kind, name, tmp_path):
  """The tiny model's files are float32, so an export loses nothing."""
  mesh = mesh_lib.make_mesh(data=2, fsdp=2, tensor=1)
  dtype = jnp.dtype(name)
  found = weights.find(str(runs[kind]))
  got = found.load(SPECS, mesh, dtype)
  assert export.export(runs[kind], str(tmp_path / 'out')) == 5
  there = serve.from_directory(str(tmp_path / 'out'))
  assert_equal(got, there.load(SPECS, mesh, dtype))
  placed = jax.tree.leaves(serve.placed(SPECS, mesh))
  assert [x.sharding for x in jax.tree.leaves(got)] == placed


def test_a_run_is_found_by_folder_and_by_step(runs, model, tmp_path):
  mesh = mesh_lib.make_mesh(data=-1, fsdp=1, tensor=1)
  load = lambda path: weights.find(str(path)).load(SPECS, mesh, jnp.float32)
  run = runs['full']
  newest, first = load(run), load(run / 'checkpoints' / '3')
  assert_equal(newest, drawn(lora.split(SPECS, **FULL), 5))
  assert_equal(newest, load(run / 'checkpoints' / '5'))
  assert (newest['embed'] != first['embed']).any()
  told = [
    weights.find(str(path)).digests()
    for path in (run, run / 'checkpoints' / '5', run / 'checkpoints' / '3')
  ]
  assert told[0] == told[1] != told[2]
  # The folder of a user who keeps models in a folder of that name.
  mine = tiny.write_model(tmp_path / 'checkpoints' / '7')
  assert_equal(load(mine), load(model))
  assert weights.find(str(mine)).digests().keys() == {'model'}


def test_the_newest_checkpoint_is_looked_up_once(model, tmp_path):
  mesh = mesh_lib.make_mesh(data=-1, fsdp=1, tensor=1)
  run = save_run(tmp_path / 'run', model, FULL, 1)
  found = weights.find(str(run))
  save_run(tmp_path / 'other', model, FULL, 2)
  (tmp_path / 'other' / 'checkpoints' / '2').rename(run / 'checkpoints' / '2')
  assert_equal(
    found.load(SPECS, mesh, jnp.float32),
    weights.find(str(run / 'checkpoints' / '1')).load(SPECS, mesh, jnp.float32),
  )


def test_what_cannot_be_served_is_one_line(model, tmp_path):
  mesh = mesh_lib.make_mesh(data=-1, fsdp=1, tensor=1)
  (tmp_path / 'empty' / 'checkpoints').mkdir(parents=True)
  with pytest.raises(OSError, match=r'empty: holds no checkpoint; give the '):
    weights.find(str(tmp_path / 'empty'))
  with pytest.raises(OSError, match=r'no such directory, nor an embedded'):
    weights.find(str(tmp_path / 'nothing'))
  other = tiny.write_model(tmp_path / 'model', rope_theta=400.0)
  run = save_run(tmp_path / 'run', other, ADAPTERS, 1)
  tiny.write_model(other)
  with pytest.raises(ValueError, match=r'not the model that the adapters of '):
    weights.find(str(run)).load(SPECS, mesh, jnp.float32)


def test_an_engine_answers_with_the_tokenizer_of_its_model(model):
  mesh = mesh_lib.make_mesh(data=-1, fsdp=1, tensor=1)
  source = serve.from_directory(str(model))
  files = serve.read_model(source.directory)
  assert files.stops == (tiny.SPECIAL.index('<eos>'),)
  assert files.network.config.context == 64
  sizes = serve.choose_sizes(serve.Asked(page=4), mesh, window=8, max_tokens=4)
  assert (sizes.slots, sizes.page, sizes.chunk, sizes.pages) == (0, 4, 4, 0)
  served = serve.serve(
    source,
    files,
    mesh,
    sizes=sizes,
    sampling=sampling.Sampling(),
    ending=programs.Ending(files.stops),
    dtype=jnp.dtype('float32'),
    kv_dtype=jnp.dtype('float32'),
    rollouts=5,
  )
  assert served.tokenizer is files.tokenizer
  # Two rollouts for each of four devices are more than five.
  assert served.engine.sizes.slots == 8
  assert served.engine.sizes.pages == 2 * sizes.table + 1
  assert served.engine.to_text(np.array([4, 5, 1])) == 'ab'
  assert_equal(served.params, hf.load(str(model), SPECS, dtype=np.float32))


def assert_are_layers(got, want):
  """`got` is a list of the layers that `want` has stacked."""
  assert isinstance(got, tuple)
  assert_equal(jax.tree.map(lambda *x: np.stack(x), *got), want)


def one_cpu():
  return jax.make_mesh(
    (1,) * 4,
    mesh_lib.AXES,
    devices=jax.devices()[:1],
    axis_types=(AxisType.Auto,) * 4,
  )


def test_one_cpu_is_served_a_list_of_layers(model):
  source, mesh = serve.from_directory(str(model)), one_cpu()
  files = serve.read_model(source.directory)
  asked = serve.Asked(page=4)
  served = serve.serve(
    source,
    files,
    mesh,
    sizes=serve.choose_sizes(asked, mesh, window=8, max_tokens=4),
    sampling=sampling.Sampling(),
    ending=programs.Ending(files.stops),
    dtype=jnp.dtype('float32'),
    kv_dtype=jnp.dtype('float32'),
    rollouts=5,
  )
  whole = hf.load(str(model), SPECS, dtype=np.float32)
  assert_are_layers(served.params['layers'], whole['layers'])


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('own', [FULL, ADAPTERS], ids=['full', 'adapters'])
def test_a_run_on_one_cpu_reads_a_list_of_the_same_layers(own, dtype):
  parts = lora.split(SPECS, **own)
  frozen = base.init_params(parts.frozen, jax.random.key(1))
  state = base.overlaid(frozen, drawn(parts, 2))
  mesh = one_cpu()
  how = SPECS, parts, mesh, jnp.dtype(dtype)
  (read, extra), (stacked, least) = (
    serve.rollout_params(*how, trained=mesh, stacked=x) for x in (False, True)
  )
  got, want = read(state), stacked(state)
  assert_are_layers(got['layers'], want['layers'])
  assert_equal(got['embed'], want['embed'])
  # What is neither cast nor merged is shared; the layers never are.
  shared = got['embed'] is state['embed']
  assert shared == (own is FULL and dtype == 'float32')
  owned = got['layers'] if shared else got
  assert extra == sum(x.nbytes for x in jax.tree.leaves(owned))
  assert least == (0 if shared else extra)


def test_lengths_and_tokens_that_do_not_fit():
  lengths = {'--window': 60, '--max_tokens': 4}
  serve.check_context(lengths, 'm', 64)
  with pytest.raises(
    ValueError, match=r'^--window=60: with --max_tokens=4 longer .* of m, 63;'
  ):
    serve.check_context(lengths, 'm', 63)
  serve.check_vocabulary('m', 8, [0, 7])
  for ids in ([3, 8], [-1]):
    with pytest.raises(ValueError, match=r'is outside its vocabulary of 8; is'):
      serve.check_vocabulary('m', 8, ids)
