"""Import and export of Hugging Face directories.

The oracle is the safetensors library, which our code does not use.
"""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax
import safetensors.numpy

from acereason_jax.models import base, families, hf, tensorfiles

GOLDEN = pathlib.Path(__file__).parent / 'golden'
NAMES = sorted(p.parent.name for p in GOLDEN.glob('*/config.json'))
P = jax.sharding.PartitionSpec


def specs_of(directory):
  return families.read(directory).specs


def oracle(directory):
  """{tensor name: float32 array}, read by the safetensors library."""
  files = sorted(pathlib.Path(directory).glob('*.safetensors'))
  parts = [safetensors.flax.load_file(f) for f in files]
  return {
    k: np.asarray(v, np.float32) for part in parts for k, v in part.items()
  }


def shardings_of(specs):
  """Over a 2x2 mesh, every dimension but L; D is split twice where it fits."""
  mesh = jax.make_mesh(
    (2, 2), ('x', 'y'), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  rules = {
    'embed': 'x',
    'heads': 'y',
    'kv_heads': 'y',
    'mlp': 'y',
    'vocab': 'y',
  }

  def sharding(spec):
    return jax.sharding.NamedSharding(mesh, P(*map(rules.get, spec.axes)))

  return base.map_specs(sharding, specs)


def copy(name, tmp_path):
  target = tmp_path / name
  shutil.copytree(GOLDEN / name, target)
  return target


@pytest.mark.parametrize('name', NAMES)
def test_load_equals_the_safetensors_library(name):
  specs = specs_of(GOLDEN / name)
  params = hf.load(GOLDEN / name, specs, dtype=jnp.float32)
  want = oracle(GOLDEN / name)
  leaves, treedef = jax.tree.flatten(specs, is_leaf=base.is_spec)
  seen = set()
  for spec, got in zip(leaves, treedef.flatten_up_to(params)):
    assert got.shape == spec.shape
    for index in np.ndindex(spec.shape[: spec.stacked]):
      name = spec.name.format(*index)
      np.testing.assert_array_equal(got[index], want[name])
      seen.add(name)
  assert seen == want.keys()


def test_load_narrows_to_the_dtype_asked_for():
  specs = specs_of(GOLDEN / 'qwen3')
  params = hf.load(GOLDEN / 'qwen3', specs, dtype=jnp.bfloat16)
  want = oracle(GOLDEN / 'qwen3')['model.embed_tokens.weight']
  assert params['embed'].dtype == jnp.bfloat16
  np.testing.assert_array_equal(params['embed'], want.astype(jnp.bfloat16))


@pytest.mark.parametrize('name', ['qwen2', 'llama3'])
def test_sharded_load_equals_unsharded(name):
  specs = specs_of(GOLDEN / name)
  shardings = shardings_of(specs)
  sharded = hf.load(
    GOLDEN / name, specs, dtype=jnp.float32, shardings=shardings
  )
  whole = hf.load(GOLDEN / name, specs, dtype=jnp.float32)
  for got, want, sharding in zip(
    *map(jax.tree.leaves, (sharded, whole, shardings))
  ):
    assert got.sharding == sharding
    for shard in got.addressable_shards:
      np.testing.assert_array_equal(shard.data, np.asarray(want)[shard.index])
  assert sharded['layers']['q'].addressable_data(0).size * 4 == (
    whole['layers']['q'].size
  )


def test_rows_are_those_of_the_file(tmp_path, monkeypatch):
  """However few are read at once; a file that was cut meanwhile is one line."""
  model = copy('qwen2', tmp_path)
  tensors = tensorfiles.read_tensors(model)
  for name, want in oracle(model).items():
    for at_once in (1 << 20, 100):
      monkeypatch.setattr(tensorfiles, '_READ_BYTES', at_once)
      out = np.zeros_like(want[1:])
      tensorfiles.read_rows(tensors[name], 1, out)
      np.testing.assert_array_equal(out, want[1:])
  last = max(tensors.values(), key=lambda t: t.stop)
  with open(last.path, 'r+b') as file:
    file.truncate(last.stop - 1)
  with pytest.raises(ValueError, match=r'it ends at byte .* damaged file'):
    tensorfiles.read_rows(last, 0, np.zeros(last.shape, np.float32))


@pytest.mark.parametrize('sharded', [False, True])
@pytest.mark.parametrize('name', NAMES)
def test_export_repeats_its_source_byte_for_byte(name, sharded, tmp_path):
  specs = specs_of(GOLDEN / name)
  shardings = shardings_of(specs) if sharded else None
  params = hf.load(GOLDEN / name, specs, dtype=jnp.float32, shardings=shardings)
  hf.export(params, specs, GOLDEN / name, tmp_path / 'out')
  want = {p.name: p.read_bytes() for p in (GOLDEN / name).iterdir()}
  del want['golden.npz']
  assert {p.name: p.read_bytes() for p in (tmp_path / 'out').iterdir()} == want
  assert [p.name for p in tmp_path.iterdir()] == ['out']


def test_export_follows_the_links_of_the_hubs_cache_alone(tmp_path):
  """A file may be shared by all repositories of a cache, two links away."""
  cache = tmp_path / 'hub'
  own, shared = cache / 'models--a--b' / 'blobs', cache / 'blobs' / '1f'
  source = own.parent / 'snapshots' / ('0' * 40)
  for folder in (own, shared, source):
    folder.mkdir(parents=True)
  for path in sorted((GOLDEN / 'qwen2').iterdir()):
    shutil.copyfile(path, shared / path.name)
    (own / path.name).symlink_to(shared / path.name)
    (source / path.name).symlink_to(own / path.name)
  params = hf.load(str(source), specs_of(source), dtype=jnp.float32)
  hf.export(params, specs_of(source), str(source), str(tmp_path / 'out'))
  for path in (tmp_path / 'out').iterdir():
    assert path.read_bytes() == (shared / path.name).read_bytes()
  (tmp_path / 'secret').write_text('{}')
  (source / 'merges.txt').symlink_to(tmp_path / 'secret')
  with pytest.raises(ValueError, match=r'merges.txt: a link to .*secret'):
    hf.export(params, specs_of(source), str(source), str(tmp_path / 'other'))


def test_export_writes_the_values_it_is_given(tmp_path):
  specs = specs_of(GOLDEN / 'qwen2')
  params = hf.load(GOLDEN / 'qwen2', specs, dtype=jnp.float32)
  params = jax.tree.map(lambda x: -2 * x, params)
  hf.export(params, specs, GOLDEN / 'qwen2', tmp_path / 'out')
  want = oracle(GOLDEN / 'qwen2')
  for name, got in oracle(tmp_path / 'out').items():
    np.testing.assert_array_equal(got, -2 * want[name])


def test_a_tied_head_and_rotary_buffers_are_ignored_then_written(tmp_path):
  source = copy('qwen2_tied', tmp_path)
  specs = specs_of(source)
  tensors = safetensors.numpy.load_file(source / 'model.safetensors')
  embed = tensors['model.embed_tokens.weight']
  buffer = 'model.layers.0.self_attn.rotary_emb.inv_freq'
  tensors |= {'lm_head.weight': embed, buffer: np.arange(6, dtype=np.float32)}
  safetensors.numpy.save_file(tensors, source / 'model.safetensors')
  params = hf.load(source, specs, dtype=jnp.float32)
  params['embed'] = 2 * params['embed']
  hf.export(params, specs, source, tmp_path / 'out')
  got = safetensors.numpy.load_file(tmp_path / 'out' / 'model.safetensors')
  np.testing.assert_array_equal(got['lm_head.weight'], 2 * embed)
  np.testing.assert_array_equal(got['model.embed_tokens.weight'], 2 * embed)
  np.testing.assert_array_equal(got[buffer], np.arange(6))


def test_export_never_overwrites(tmp_path):
  specs = specs_of(GOLDEN / 'qwen3')
  params = hf.load(GOLDEN / 'qwen3', specs, dtype=jnp.float32)
  out = tmp_path / 'out'
  out.mkdir()
  hf.export(params, specs, GOLDEN / 'qwen3', out)  # empty: may be taken
  with pytest.raises(FileExistsError, match='not empty; remove it'):
    hf.export(params, specs, GOLDEN / 'qwen3', out)


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
  def full(*_):
    raise OSError('disk full')

  specs = specs_of(GOLDEN / 'qwen3')
  params = hf.load(GOLDEN / 'qwen3', specs, dtype=jnp.float32)
  monkeypatch.setattr(shutil, 'copyfile', full)
  with pytest.raises(OSError, match='disk full'):
    hf.export(params, specs, GOLDEN / 'qwen3', tmp_path / 'out')
  assert not list(tmp_path.iterdir())


def test_only_the_first_process_writes(tmp_path, monkeypatch):
  specs = specs_of(GOLDEN / 'qwen3')
  params = hf.load(GOLDEN / 'qwen3', specs, dtype=jnp.float32)
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  hf.export(params, specs, GOLDEN / 'qwen3', tmp_path / 'out')
  assert not list(tmp_path.iterdir())


def rewrite(directory, change):
  """Applies `change` to the tensors of a one-file checkpoint."""
  file = directory / 'model.safetensors'
  tensors = safetensors.numpy.load_file(file)
  change(tensors)
  safetensors.numpy.save_file(tensors, file)


NORM = 'model.layers.1.input_layernorm.weight'


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda t: t.pop(NORM), f'lacks tensor {NORM}'),
    (lambda t: t.update(spare=t[NORM]), 'unexpected tensor spare'),
    (
      lambda t: t.update({NORM: t[NORM][:7]}),
      rf'{NORM} has shape \(7,\), expected \(48,\)',
    ),
  ],
)
def test_tensors_must_be_those_of_the_config(change, message, tmp_path):
  source = copy('qwen3', tmp_path)
  specs = specs_of(source)
  rewrite(source, change)
  with pytest.raises(ValueError, match=message) as e:
    hf.load(source, specs, dtype=jnp.float32)
  assert 'another architecture or shape' in str(e.value)
  assert '\n' not in str(e.value)


def test_an_untied_head_is_needed(tmp_path):
  source = copy('qwen3', tmp_path)
  specs = specs_of(source)
  rewrite(source, lambda t: t.pop('lm_head.weight'))
  with pytest.raises(ValueError, match=r'lacks tensor lm_head\.weight'):
    hf.load(source, specs, dtype=jnp.float32)


def test_missing_files_are_named(tmp_path):
  specs = specs_of(GOLDEN / 'qwen2')
  with pytest.raises(
    FileNotFoundError, match=r'holds neither model\.safetensors'
  ):
    hf.load(tmp_path / 'none', specs, dtype=jnp.float32)
  with pytest.raises(FileNotFoundError, match=r'config\.json: not found'):
    hf.read_config(tmp_path / 'none')
  source = copy('qwen2', tmp_path)
  (source / 'model-00002-of-00003.safetensors').unlink()
  with pytest.raises(
    FileNotFoundError, match=r'00002-of-00003\.safetensors: not'
  ):
    hf.load(source, specs, dtype=jnp.float32)


@pytest.mark.parametrize(
  'file',
  ['../x.safetensors', '/etc/x.safetensors', '..', '', 'x.bin', 3, None, ['x']],
)
def test_an_index_cannot_leave_its_directory(file, tmp_path):
  source = copy('qwen2', tmp_path)
  index = source / tensorfiles.INDEX
  content = json.loads(index.read_text())
  shutil.copy(
    source / 'model-00001-of-00003.safetensors', tmp_path / 'x.safetensors'
  )
  first = next(iter(content['weight_map']))
  content['weight_map'][first] = file
  index.write_text(json.dumps(content))
  with pytest.raises(ValueError, match='without a folder: do not load'):
    tensorfiles.read_tensors(source)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('[]', 'not an object'),
    ('{"weight_map": []}', "no 'weight_map' object"),
    ('{', 'invalid JSON'),
    ('[' * 100_000, 'invalid JSON'),
    ('{"weight_map": {}, "weight_map": {}}', 'names a key twice'),
    (
      '{"weight_map": {"a": "model-00001-of-00003.safetensors"}}',
      'disagree on a, ',
    ),
  ],
)
def test_a_damaged_index_is_refused(content, message, tmp_path):
  source = copy('qwen2', tmp_path)
  (source / tensorfiles.INDEX).write_text(content)
  with pytest.raises(ValueError, match=message):
    tensorfiles.read_tensors(source)


def tensor_file(path, header, data=bytes(16), length=None):
  raw = header if isinstance(header, bytes) else json.dumps(header).encode()
  length = len(raw) if length is None else length
  path.write_bytes(length.to_bytes(8, 'little') + raw + data)
  return path


def entry(dtype='F32', shape=(2,), offsets=(0, 8)):
  return {'dtype': dtype, 'shape': shape, 'data_offsets': offsets}


SECOND = entry(offsets=(8, 16))


def test_a_sound_header_is_read(tmp_path):
  file = tensor_file(
    tmp_path / 'x', {'__metadata__': {}, 'b': SECOND, 'a': entry()}
  )
  tensors = tensorfiles.read_header(file)
  assert list(tensors) == ['a', 'b']
  end = file.stat().st_size
  assert (tensors['b'].start, tensors['b'].stop) == (end - 8, end)


@pytest.mark.parametrize(
  'header',
  [
    {'a': entry()},  # bytes that no tensor owns
    {'a': entry(), 'b': entry(offsets=(4, 12))},  # overlap
    {'a': entry(), 'b': entry(offsets=(0, 8)), 'c': SECOND},  # the same twice
    {'a': entry(), 'b': entry(offsets=(12, 20))},  # a hole, past the end
    {'a': entry(), 'b': entry(offsets=(16, 8), shape=(-2,))},
    {'a': entry(), 'b': entry(offsets=(8, 16), shape=(-1, -2))},
    {'a': entry(), 'b': entry(offsets=(8, 16), shape=(3,))},
    {'a': entry(), 'b': entry(offsets=(8, 16), shape=(2.0,))},
    {'a': entry(), 'b': entry(offsets=(8, 16), shape=(True, 2))},
    {'a': entry(), 'b': entry(offsets=(8, 16), shape=(1,) * 99 + (2,))},
    {'a': entry(), 'b': entry(offsets=(8, 16), shape=(2**70, 0))},
    {'a': entry(), 'b': entry(offsets=(8, 2**80), shape=(2**78,))},
    {'a': entry(), 'b': entry(offsets=('8', '16'))},
    {'a': entry(), 'b': entry(dtype='I4')},
    {'a': entry(), 'b': entry(dtype=['F32'])},
    {'a': entry(), 'b': entry(dtype='F64', shape=(1,), offsets=(8, 16))},
    {'a': entry(), 'b': []},
    {'a': entry(), 'b': {'dtype': 'F32', 'shape': [2]}},
    {'a': entry(), 'b': entry(shape=2)},
    [],
    b'{"a": 1',
    b'\xff\xfe{}',
    b'',
    b'[' * 100_000,
  ],
)
def test_a_lying_header_is_refused(header, tmp_path):
  file = tensor_file(tmp_path / 'x.safetensors', header)
  with pytest.raises(ValueError, match=r'x\.safetensors: ') as e:
    tensorfiles.read_header(file)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize('length', [0, 1, 50, 2**32, 2**63, 2**64 - 1])
def test_a_header_length_that_lies_is_refused(length, tmp_path):
  header = {'a': entry(), 'b': SECOND}
  file = tensor_file(tmp_path / 'x.safetensors', header, length=length)
  with pytest.raises(ValueError, match='damaged file'):
    tensorfiles.read_header(file)


@pytest.mark.parametrize('size', [0, 7, 8])
def test_a_stump_is_refused(size, tmp_path):
  (tmp_path / 'x.safetensors').write_bytes(b'\1' + bytes(7)[: size - 1])
  with pytest.raises(ValueError, match='damaged file'):
    tensorfiles.read_header(tmp_path / 'x.safetensors')


def test_a_flipped_byte_is_refused_or_harmless(tmp_path):
  """Whatever header is accepted, its tensors still tile the file."""
  good = (GOLDEN / 'qwen3' / 'model.safetensors').read_bytes()
  header = 8 + int.from_bytes(good[:8], 'little')
  file = tmp_path / 'x.safetensors'
  file.write_bytes(good)
  rng = np.random.default_rng(0)
  for _ in range(300):
    position, byte = int(rng.integers(header)), int(rng.integers(256))
    with open(file, 'r+b') as f:
      f.seek(position)
      f.write(bytes([byte]))
    try:
      tensors = tensorfiles.read_header(file).values()
      assert sum(t.stop - t.start for t in tensors) == len(good) - header
    except ValueError as e:
      assert str(file) in str(e)
    with open(file, 'r+b') as f:
      f.seek(position)
      f.write(good[position : position + 1])
