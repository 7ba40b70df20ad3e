"""Models and data of a hub: fetched once, kept, whole, and refused in a line.

A process of its own asks each question, because huggingface_hub reads its
variables when it is imported.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import hub_server
import pyarrow
import pyarrow.parquet
import pytest
import tiny

from acereason_jax import hub as hub_lib

MODEL, DATA = 'owner/tiny', 'datasets/owner/sums'
FILE = f'hf://{DATA}/train.jsonl'
# Answers on one line each: 'got' or 'error'.
ASK = """
import json, os, sys
from acereason_jax import hub
hub._SECONDS = float(os.environ.get('SECONDS', hub._SECONDS))
for call, *arguments in json.loads(sys.argv[1]):
  try:
    told = dict(got=getattr(hub, call)(*arguments))
  except ValueError as e:
    told = dict(error=str(e))
  print(json.dumps(told), flush=True)
"""
PATTERNS = ['config.json', 'tokenizer.json', 'LICENSE', 'model*.safetensors']
ROWS = b'{"question": "1+1?", "answer": "2"}\n'
FILES = {
  'config.json': b'{}',
  'tokenizer.json': b'{"version": "1.0"}',
  'model.safetensors': bytes(range(256)) * 4096,
  'pytorch_model.bin': b'pickle',
  'modeling_tiny.py': b'raise SystemExit',
  'original/model.safetensors': b'the same again',
  'README.md': b'# tiny',
}


@pytest.fixture
def hub():
  with hub_server.started() as hub:
    hub.commit(MODEL, dict(FILES))
    hub.commit(DATA, {'train.jsonl': ROWS})
    yield hub


def start(hub, home, *questions, **variables):
  return subprocess.Popen(
    [sys.executable, '-c', ASK, json.dumps(questions)],
    env=os.environ | hub_server.environment(hub, home, **variables),
    cwd=tiny.TESTS.parent,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def end(process):
  """(answers, what it said)."""
  out, said = process.communicate(timeout=300)
  assert process.returncode == 0, said
  assert hub_server.TOKEN not in out + said
  answers = [json.loads(line) for line in out.splitlines()]
  for answer in answers:
    assert '\n' not in answer.get('error', '')
  return answers, said


def ask(hub, home, *questions, **variables):
  return end(start(hub, home, *questions, **variables))


def error(hub, home, *question, **variables):
  ((answer,), _) = ask(hub, home, question, **variables)
  return answer['error']


def model(name=MODEL):
  return 'model', name, PATTERNS


def test_a_model_and_data_are_fetched_once(hub, tmp_path):
  (first, data), said = ask(hub, tmp_path, model(), ('local', FILE))
  assert sorted(os.listdir(first['got'])) == [
    'config.json',
    'model.safetensors',
    'tokenizer.json',
  ]
  for name in os.listdir(first['got']):
    with open(os.path.join(first['got'], name), 'rb') as file:
      assert file.read() == FILES[name]
  with open(data['got'], 'rb') as file:
    assert file.read() == ROWS
  assert f'fetching {MODEL} at {hub.heads[MODEL][:12]} (3 files, 1 MB)' in said
  assert sorted(hub.fetched()) == sorted(
    ['config.json', 'tokenizer.json', 'model.safetensors', 'train.jsonl']
  )
  again, said = ask(hub, tmp_path, model(), ('local', FILE))
  assert again == [first, data] and 'fetching' not in said
  assert len(hub.fetched()) == 4


def test_without_a_connection_the_cache_serves(hub, tmp_path):
  both = model(), ('local', FILE)
  first, _ = ask(hub, tmp_path, *both)
  hub.asked.clear()
  assert ask(hub, tmp_path, *both, HF_HUB_OFFLINE='1')[0] == first
  assert not hub.asked
  hub.down = 503
  again, said = ask(hub, tmp_path, *both)
  assert again == first and 'Using cached commit' in said
  nowhere = dict(HF_ENDPOINT='http://127.0.0.1:9')
  assert ask(hub, tmp_path, *both, **nowhere)[0] == first


def test_a_cache_that_cannot_be_written_serves(hub, tmp_path):
  first, _ = ask(hub, tmp_path, model())
  # Not even root creates files in a folder that is a file.
  locks = tmp_path / 'hub' / '.locks'
  shutil.rmtree(locks)
  locks.write_text('')
  assert ask(hub, tmp_path, model())[0] == first


def test_a_broken_download_goes_on_where_it_broke(hub, tmp_path):
  # The library writes pieces of 10 MiB.
  content = bytes(range(256)) * 100_000
  hub.commit(MODEL, FILES | {'model.safetensors': content})
  hub.broken['model.safetensors'] = 23 << 20
  ((answer,), said) = ask(hub, tmp_path, model())
  ranges = [r for _, path, r in hub.asked if path.startswith('/cdn/')]
  assert ranges[0] is None
  assert ranges[1:] == [f'bytes={20 << 20}-']
  assert 'Trying to resume download' in said
  with open(os.path.join(answer['got'], 'model.safetensors'), 'rb') as file:
    assert file.read() == content


def test_a_killed_download_leaves_whole_files(hub, tmp_path):
  hub.held['model.safetensors'] = held = threading.Event()
  process = start(hub, tmp_path, model())
  with contextlib.closing(process.stderr):
    while 'model.safetensors' not in hub.fetched() or not {
      'config.json',
      'tokenizer.json',
    } <= set(os.listdir(snapshot(tmp_path, hub))):
      assert process.poll() is None
    process.kill()
    process.wait()
  held.set()
  hub.asked.clear()
  ((answer,), _) = ask(hub, tmp_path, model())
  assert hub.fetched() == ['model.safetensors']
  with open(os.path.join(answer['got'], 'model.safetensors'), 'rb') as file:
    assert file.read() == FILES['model.safetensors']


def snapshot(home, hub):
  place = home / 'hub' / 'models--owner--tiny' / 'snapshots'
  place /= hub.heads[MODEL]
  return place if place.exists() else home


def test_of_two_processes_one_fetches(hub, tmp_path):
  hub.held['config.json'] = held = threading.Event()
  first = start(hub, tmp_path, model())
  while 'config.json' not in hub.fetched():
    assert first.poll() is None
  second = start(hub, tmp_path, model())
  waits = second.stderr.readline()
  held.set()
  (a, _), (b, said) = end(first), end(second)
  assert waits == (
    f'waiting for another process of this host that fetches {MODEL}\n'
  )
  assert a == b and 'fetching' not in said
  assert len(hub.fetched()) == 3


def test_a_revision_is_what_is_fetched(hub, tmp_path):
  before = hub.heads[MODEL]
  hub.commit(MODEL, FILES | {'config.json': b'{"moved": 1}'})
  questions = [model(), model(f'{MODEL}@{before}')]
  (now, then), _ = ask(hub, tmp_path, *questions)
  for answer, content in ((now, b'{"moved": 1}'), (then, b'{}')):
    with open(os.path.join(answer['got'], 'config.json'), 'rb') as file:
      assert file.read() == content


ROWS_OF = """
import sys
import tiny
from acereason_jax import resolve
data = tiny.shipped('acereason_7b').get_config('math_only').domains.math
for source in (data.train_data, data.heldout_data):
  rows = resolve.build(source.to_dict(), 'data')
  print(*[(row.question, row.answer) for row in rows])
"""


def test_the_published_config_reads_its_data_from_the_hub(hub, tmp_path):
  """Rows in the columns that public code reads from these files."""
  rows = b'{"problem": "1 + 1?", "answer": "2"}\n'
  hub.commit('datasets/nvidia/AceReason-Math', {'math.jsonl': rows})
  columns = dict(ID=['2024-I-1'], Problem=['2 + 2?'], Solution=['So:'])
  table = pyarrow.table(columns | dict(Answer=[4]))
  pyarrow.parquet.write_table(table, tmp_path / 'aime')
  name, content = 'aime_2024_problems.parquet', (tmp_path / 'aime').read_bytes()
  hub.commit('datasets/Maxwell-Jia/AIME_2024', {name: content})
  done = subprocess.run(
    [sys.executable, '-c', ROWS_OF],
    env=tiny.environment(tmp_path) | hub_server.environment(hub, tmp_path),
    cwd=tiny.TESTS,
    capture_output=True,
    text=True,
  )
  said = done.stdout.splitlines()
  assert said == ["('1 + 1?', '2')", "('2 + 2?', '4')"], done.stderr


REFUSED = {
  'no such model': (model('owner/none'), 'has no such model, or a private one'),
  'no such data': (
    ('local', 'hf://datasets/owner/none/a.jsonl'),
    'has no such dataset, or a private one',
  ),
  'no such file': (
    ('local', f'hf://{DATA}/none.jsonl'),
    f'there is no such file; see .*/{DATA}/tree/main',
  ),
  'no such revision': (model(f'{MODEL}@v9'), 'it has no revision v9; see'),
  'no such commit': (model(f'{MODEL}@{"0" * 40}'), 'it has no revision 0000'),
}


@pytest.mark.parametrize('what', REFUSED)
@pytest.mark.parametrize('token', [hub_server.TOKEN, ''])
def test_what_the_hub_lacks_is_a_line(hub, tmp_path, what, token):
  question, reason = REFUSED[what]
  told = error(hub, tmp_path, *question, HF_TOKEN=token)
  assert told.startswith((question[1], hub_lib.place(question[1]).name))
  assert re.search(reason, told), told


def test_what_needs_a_token_is_a_line(hub, tmp_path):
  hub.gated |= {MODEL, DATA}
  for question in (model(), ('local', FILE)):
    told = error(hub, tmp_path, *question, HF_TOKEN='hf_of_another')
    assert 'its owner grants access; ask for it at ' in told
    assert 'hf_of_another' not in told
  assert all(
    'got' in a for a in ask(hub, tmp_path, model(), ('local', FILE))[0]
  )


@pytest.mark.parametrize('status', [403, 500, 503])
def test_a_hub_that_refuses_is_a_line(hub, tmp_path, status):
  hub.down = status
  assert f'{hub.url} answers {status}; ' in error(hub, tmp_path, *model())


def test_no_connection_and_no_cache_is_a_line(hub, tmp_path):
  nowhere = 'http://someone:pass@word@127.0.0.1:9'
  for question in (model(), ('local', FILE)):
    told = error(hub, tmp_path, *question, HF_ENDPOINT=nowhere)
    assert 'http://127.0.0.1:9 is out of reach (' in told
    assert 'Connection refused' in told and 'password' not in told
    told = error(hub, tmp_path, *question, HF_HUB_OFFLINE='1')
    assert 'and HF_HUB_OFFLINE is set; unset it' in told
  assert not hub.asked


def test_a_hub_that_never_answers_is_a_line(hub, tmp_path):
  hub.held[MODEL] = held = threading.Event()
  told = error(hub, tmp_path, *model(), SECONDS='0.5')
  assert f'{hub.url} is out of reach (' in told and 'timed out' in told
  held.set()


def test_a_part_of_the_cache_is_a_line(hub, tmp_path):
  ask(hub, tmp_path, model())
  (snapshot(tmp_path, hub) / 'tokenizer.json').unlink()
  told = error(hub, tmp_path, *model(), HF_HUB_OFFLINE='1')
  assert 'not whole in the cache' in told


def files_below(folder):
  return {
    os.path.join(place, name)
    for place, _, names in os.walk(folder)
    for name in names
  }


EVIL = '../../../../../evil'


@pytest.mark.parametrize('header', ['ETag', 'X-Linked-ETag', 'X-Repo-Commit'])
def test_a_header_does_not_lead_out_of_the_cache(hub, tmp_path, header):
  home = tmp_path / 'a' / 'b' / 'c'
  for name in ('model.safetensors', 'config.json'):
    hub.headers = {name: {header: f'"{EVIL}"'}}
    told = error(hub, home, *model())
    assert f'a header {header} is no name of a file' in told
  hub.headers = {'train.jsonl': {header: f'"{EVIL}"'}}
  assert 'is no name of a file' in error(hub, home, 'local', FILE)
  assert not [f for f in files_below(tmp_path) if 'evil' in f]


def test_a_listing_does_not_lead_out_of_the_cache(hub, tmp_path):
  hub.listed = [
    f'{EVIL}.safetensors',
    f'model{EVIL}.safetensors',
    '/config.json',
  ]
  ((answer,), _) = ask(hub, tmp_path / 'a' / 'b', model())
  assert sorted(os.listdir(answer['got'])) == [
    'config.json',
    'model.safetensors',
    'tokenizer.json',
  ]
  hub.heads[MODEL] = '../../../../evil'
  hub.commits[MODEL][hub.heads[MODEL]] = FILES
  assert 'gave no commit' in error(hub, tmp_path / 'c', *model())
  assert not [f for f in files_below(tmp_path) if 'evil' in f]


def test_a_file_without_an_end_is_a_line(hub, tmp_path):
  for name, question in (
    ('train.jsonl', ('local', FILE)),
    ('config.json', model()),
  ):
    hub.endless = {name}
    told = error(hub, tmp_path, *question)
    assert 'it sends more than the' in told
  sizes = [os.path.getsize(f) for f in files_below(tmp_path)]
  assert max(sizes, default=0) < 64 << 20


def test_a_file_that_is_too_large_is_not_fetched(hub, tmp_path):
  told = error(hub, tmp_path, 'local', FILE, 10)
  assert '1 files of 36 bytes, more than' in told
  assert not hub.fetched()


@pytest.mark.parametrize(
  'name',
  [
    'owner/..',
    'owner/.',
    'owner/tiny@../main',
    'owner/tiny@a b',
    'owner/tiny@',
    'owner/a--b',
    'hf://owner/tiny/file',
    'hf://datasets/owner/sums',
    'hf://datasets/owner/sums/../x.jsonl',
    'hf://datasets/owner/sums/a/../../x.jsonl',
    'hf://datasets/owner/sums@../a.jsonl',
    'hf://datasets/owner/../a.jsonl',
    'hf://datasets/owner/sums/a\nb.jsonl',
    'hf://datasets/owner/sums/a\\b.jsonl',
    'hf://',
  ],
)
def test_odd_names_are_refused(name):
  with pytest.raises(ValueError, match=r'expected a (model|file) as') as e:
    hub_lib.place(name)
  assert '\n' not in str(e.value)


def test_what_a_name_means():
  assert hub_lib.place('owner/tiny@v1.0') == hub_lib.Place(
    'model', 'owner/tiny', 'v1.0', ''
  )
  whole = 'hf://datasets/owner/sums@refs/convert/parquet/default/a.parquet'
  assert hub_lib.place(whole) == hub_lib.Place(
    'dataset', 'owner/sums', 'refs/convert/parquet', 'default/a.parquet'
  )
  for name in ('owner/tiny@v1.0', 'owner/tiny', whole, FILE):
    assert str(hub_lib.place(name)) == name
  for name in ('a', '/a/b', './a/b', 'a/b/c', '../a', '~/a', 'a b/c', FILE):
    assert not hub_lib.is_model(name)
