"""The real command, over a tiny model: kills, signals, what users get wrong.

Waiting has a guard, which says that a run hangs; nothing here is timed.
"""

import contextlib
import json
import os
import pathlib
import signal
import sys
import threading

import forked
import hostile_files
import jax
import numpy as np
import pytest
import test_serve
import tiny

from acereason_jax import export, generate, timeline
from acereason_jax.console import exits
from acereason_jax.models import tokens
from acereason_jax.rollout import output, trace

pytestmark = pytest.mark.usefixtures('compiled_once')
GUARD = 600
N, QUESTIONS = 60, 4
HOSTILE = '\x1b[2J</script>\u202e\n'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('tiny')
  tiny.write_model(path / 'model')
  tiny.write_questions(path / 'q.jsonl', QUESTIONS)
  return path


@pytest.fixture
def run(folder, tmp_path, capsys):
  """(exit status, its one line) of a run in this process, with flags."""
  precision = jax.config.jax_default_matmul_precision

  def call(**given):
    given = dict(
      model=folder / 'model',
      prompts=folder / 'q.jsonl',
      out=tmp_path / 'out.jsonl',
      max_tokens=6,
      temperature=1.0,
      top_p=1.0,
    ) | dict(given)
    words = [
      f'--{name}={x}'
      for name, value in given.items()
      for x in (value if isinstance(value, list) else [value])
    ]
    try:
      status = generate.run(generate.read_settings(['', *words]))
    except SystemExit as e:
      assert '\n' not in e.code and e.code.startswith('error: ')
      return 1, e.code
    return status, capsys.readouterr().out

  yield call
  jax.config.update('jax_default_matmul_precision', precision)


def refused(run, match, **given):
  status, said = run(**given)
  assert status == 1
  assert match in said
  return said


def lines_of(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def by_key(path):
  return {(r['id'], r['index']): r for r in lines_of(path)}


def write_prompts(path, *records):
  path.write_text(''.join(json.dumps(r) + '\n' for r in records))
  return path


class Command:
  """The command in a process of its own."""

  def __init__(
    self,
    folder,
    out,
    head=('-m', 'acereason_jax.generate'),
    **given,
  ):
    given = dict(
      model=folder / 'model',
      prompts=folder / 'q.jsonl',
      out=out,
      n=N,
      max_tokens=40,
      temperature=1.0,
      slots=4,
    ) | dict(given)
    self.out = out
    flags = [f'--{name}={value}' for name, value in given.items()]
    self.process = forked.command(
      [*head, *flags],
      tiny.environment(folder / 'compiled'),
    )
    self._guard = threading.Timer(GUARD, self.process.kill)
    self._guard.start()

  def ends(self, status):
    said = self.process.communicate()[0]
    self._guard.cancel()
    assert self.process.returncode == status, said
    assert 'Traceback' not in said
    return said


@pytest.fixture(scope='module')
def reference(folder):
  """The file of a run that nothing stopped, and the run's printed text."""
  out = folder / 'reference.jsonl'
  return out, Command(folder, out).ends(0)


def test_a_run_leaves_a_line_a_rollout(reference):
  out, said = reference
  assert f'{N * QUESTIONS} rollouts in {out}: ' in said.splitlines()[-1]
  assert 'tok/s  occupancy ' in said and 'preempted 0' in said
  records = by_key(out)
  assert records.keys() == {
    (f'q-{i}', index) for i in range(QUESTIONS) for index in range(N)
  }
  assert len(lines_of(out)) == len(records)
  assert {r['stop'] for r in records.values()} == {'stop', 'length'}
  header, events = trace.read_events(f'{out}.timeline.jsonl')
  assert len(events) == len(records)
  assert header['tokens'] == sum(r['length'] for r in records.values())


def test_killed_torn_and_stopped_a_file_ends_the_same(folder, reference):
  out = folder / 'killed.jsonl'
  signalled = lambda name: Command(
    folder, out, [str(tiny.TESTS / 'signalled.py'), name, '5', 'generate']
  )
  signalled('SIGKILL').ends(-signal.SIGKILL)
  assert len(by_key(out)) == 5
  with out.open('a') as file:
    file.write('{"id": "q-0", "ind')
  said = signalled('SIGTERM').ends(exits.STOPPED)
  assert said.startswith('going on after ')
  assert said.splitlines()[-1].startswith('stopped; ')
  there = by_key(out)
  assert len(there) == 10
  # Only the events of that run.
  _, events = trace.read_events(f'{out}.timeline.jsonl')
  assert len(events) >= 5
  # So few pages that rollouts give way and begin again, too.
  said = Command(folder, out, pages=8).ends(0)
  assert 'errors 0' in said and 'preempted 0' not in said
  whole, _ = reference
  assert sorted(out.read_bytes().splitlines()) == sorted(
    whole.read_bytes().splitlines()
  )


def test_a_file_in_a_bucket_goes_on_where_it_stood(
  run, folder, store, tmp_path, monkeypatch
):
  monkeypatch.setattr(output, '_SECONDS_PER_UPLOAD', 0.0)
  monkeypatch.setattr(output, '_UPLOAD_SHARE', 1e9)
  out = f'gs://runs/{tmp_path.name}/out.jsonl'
  write = output.Output.write

  class Killed(BaseException):
    """Nothing is uploaded any more."""

  def killed(self, record):
    write(self, record)
    if len(self.done) == 3:
      monkeypatch.setattr(output.Output, 'upload', lambda self: None)
      raise Killed

  with monkeypatch.context() as patched:
    patched.setattr(output.Output, 'write', killed)
    upload = output.Output.upload
    with pytest.raises(Killed):
      run(out=out)
  monkeypatch.setattr(output.Output, 'upload', upload)
  file = store.place(out)
  # The line of the third was not uploaded.
  assert 1 <= len(lines_of(file)) <= 3
  status, said = run(out=out)
  assert status == 0 and 'going on after ' in said
  assert f'4 rollouts in {out}: ' in said
  assert run()[0] == 0
  here = (tmp_path / 'out.jsonl').read_text().splitlines()
  assert sorted(file.read_text().splitlines()) == sorted(here)
  assert run(out=out)[1] == f'finished already: 4 rollouts in {out}\n'
  refused(
    run, f'{out}: holds rollouts of other settings: seed', out=out, seed=1
  )
  names = [p.name for p in file.parent.iterdir()]
  assert sorted(names) == [
    f'out.jsonl{x}' for x in ('', '.json', '.timeline.jsonl')
  ]


@pytest.mark.parametrize(
  'given, match',
  [
    (dict(out='s3://bucket/x'), 's3://bucket/x: no such kind of place'),
    (dict(out='gs://nobody/x'), 'there is no bucket gs://nobody; make it'),
    (dict(out='gs://runs'), 'gs://runs: a folder; give --out=gs://BUCKET/FILE'),
    (dict(out='gs://runs/x/'), 'gs://runs/x/: a folder; give --out=gs://'),
    (dict(model='gs://runs/none'), 'gs://runs/none: holds no checkpoint'),
  ],
)
def test_a_place_that_is_none_is_one_line(run, store, given, match):
  refused(run, match, **given)


def test_an_interrupt_is_heeded_even_where_a_library_swallowed_it(
  run, tmp_path, monkeypatch
):
  out = tmp_path / 'out.jsonl'
  write = output.Output.write

  def interrupted(self, record):
    write(self, record)
    if len(self.done) == 3:
      with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

  monkeypatch.setattr(output.Output, 'write', interrupted)
  status, said = run()
  assert status == exits.STOPPED and said.startswith('stopped; ')
  assert len(lines_of(out)) == 3
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  status, said = run()
  assert status == 0 and said.startswith('going on after 3 of 4 rollouts\n')
  assert len(by_key(out)) == len(lines_of(out)) == QUESTIONS
  assert run()[1] == f'finished already: 4 rollouts in {out}\n'


def test_a_usage_error_and_a_bad_file_are_one_line(folder, tmp_path):
  run = Command(folder, tmp_path / 'out.jsonl', prompts=f'{HOSTILE}.jsonl')
  said = run.ends(1).splitlines()
  assert len(said) == 1 and said[0].startswith('error: ')
  assert said[0].isprintable() and '\\x1b[2J' in said[0]


def test_files_next_to_the_rollouts_are_not_replaced(run, folder, tmp_path):
  content, q = (folder / 'q.jsonl').read_text(), tmp_path / 'q'
  for name in ('q.json', 'q.timeline.jsonl'):
    prompts = tmp_path / name
    prompts.write_text(content)
    said = refused(run, f'--out: {prompts}: there is', prompts=prompts, out=q)
    assert said.endswith('give another path')
    assert prompts.read_text() == content and len([*tmp_path.iterdir()]) == 1
    prompts.unlink()
  assert run(out=q)[0] == 0
  # It is drawn anew, with others of its own files.
  q.unlink()
  assert run(out=q, seed=1)[0] == 0


def test_other_settings_are_refused_and_more_rollouts_are_not(
  run, folder, tmp_path
):
  out = tmp_path / 'out.jsonl'
  assert run(n=2)[0] == 0
  before = out.read_text()
  refused(run, 'seed: 0 -> 1; give another --out, or', n=2, seed=1)
  refused(run, 'n: 2 -> 1;', n=1)
  refused(run, 'tokens: false -> true; top_k: 0 -> 3', tokens='true', top_k=3)
  more = tmp_path / 'more.jsonl'
  lines = (folder / 'q.jsonl').read_text()
  more.write_text(lines + '{"prompt": "7?"}\n')
  refused(run, 'prompts: "', n=2, prompts=more)
  other = tiny.write_model(tmp_path / 'model', rope_theta=400.0)
  refused(run, 'model: "', n=2, model=other)
  assert out.read_text() == before
  assert run(n=3, slots=4, page=4, data=2, fsdp=2)[0] == 0
  assert out.read_text().startswith(before)
  assert len(by_key(out)) == len(lines_of(out)) == 3 * QUESTIONS


def test_other_prompts_are_refused(run, tmp_path):
  """Where they change without a file of the model that does."""
  out = tmp_path / 'out.jsonl'
  assert run(system='a')[0] == 0
  header = tmp_path / 'out.jsonl.json'
  told = json.loads(header.read_text())
  assert told['stop_tokens'] == [1]
  assert len({told['prompt_tokens'], told['tokenizer'], told['prompts']}) == 3
  for name in ('prompt_tokens', 'tokenizer', 'stop_tokens'):
    header.write_text(json.dumps(told | {name: 'x'}))
    refused(run, f'{name}: "x" -> ', system='a', n=2)
  header.write_text(json.dumps(told))
  assert run(system='a', n=2)[0] == 0 and len(lines_of(out)) == 2 * QUESTIONS


def test_a_template_that_reads_the_clock_gives_one_prompt(
  run, tmp_path, capsys
):
  model = tiny.write_model(tmp_path / 'model')
  clock = "{{ strftime_now('%M%S') }}"
  hostile_files.template(clock + tiny.TEMPLATE)(model)
  prompts = write_prompts(tmp_path / 'p.jsonl', dict(prompt='1+1?'))
  given = dict(model=model, prompts=prompts, temperature=0.0)
  assert run(**given)[0] == 0
  assert run(**given, n=2)[0] == 0
  first, second = lines_of(tmp_path / 'out.jsonl')
  assert first['text'] == second['text'] and first['index'] != second['index']


@pytest.mark.parametrize(
  'spoil, words',
  [
    (hostile_files.TEMPLATES['a long range'], 'OverflowError'),
    (hostile_files.TEMPLATES['an error of its own'], 'roles must alternate'),
    (hostile_files.TOKENIZERS['json: cut'], 'tokenizer cannot be loaded'),
    (hostile_files.TOKENIZERS['json: a pipe'], 'not a regular file'),
    (hostile_files.TOKENIZERS["stop: '2'"], "holds '2'"),
    (hostile_files.NETWORKS['rope: yarn without factor'], 'factor=None'),
    (hostile_files.NETWORKS['num_hidden_layers=1000000000'], '1 to 1024'),
    (hostile_files.NETWORKS['weights: all header'], 'at most 100000000'),
  ],
)
def test_a_hostile_model_is_one_line(run, tmp_path, spoil, words):
  model = tiny.write_model(tmp_path / 'model')
  spoil = hostile_files.template(spoil) if isinstance(spoil, str) else spoil
  spoil(model)
  refused(run, words, model=model)
  assert not (tmp_path / 'out.jsonl').exists()


def test_a_file_that_is_not_ours_is_left_alone(run, tmp_path):
  out = tmp_path / 'out.jsonl'
  header = pathlib.Path(f'{out}.json')
  for text in ('dear diary', '[]\n{"a"', '{"id": "q", "index": 0}\n'):
    out.write_text(text)
    refused(run, f'{out}: has no {header} that tells what made it')
    for other in ('[1', '5', '[' * 100_000):
      header.write_text(other)
      refused(run, f'{header}: not readable')
    for n in ('"1"', 'null', 'true'):
      header.write_text(f'{{"n": {n}}}')
      refused(run, 'holds rollouts of other settings')
    header.unlink()
    os.mkfifo(header)
    refused(run, f'{header}: a pipe; expected a file')
    header.unlink()
    assert out.read_text() == text
  out.unlink()
  os.mkfifo(out)
  refused(run, f'{out}: not a file')


def test_a_line_that_is_no_rollout(run, tmp_path):
  out = tmp_path / 'out.jsonl'
  run()
  with out.open('a') as file:
    file.write('{"id": "q-0", "index": 0}\n')
  refused(run, f'{out}:{QUESTIONS + 1}: no rollout; give another --out')


def test_two_runs_do_not_share_a_file(run, tmp_path):
  settings = dict(n=1, seed=0, temperature=1.0)
  with output.Output(str(tmp_path / 'out.jsonl'), settings):
    refused(run, 'another process writes it')


@pytest.mark.parametrize(
  'line, message',
  [
    ('{"prompt": "1?"', 'bad.jsonl:2: not one JSON object'),
    ('[true]', 'bad.jsonl:2: expected an object, got [True]'),
    ('{"prompt": ""}', "bad.jsonl:2: prompt must be text, got ''"),
    ('{"prompt": "\\ud800"}', 'bad.jsonl:2: prompt is not valid Unicode'),
    ('{"query": "1?"}', "bad.jsonl:2: needs exactly one of 'prompt'"),
    ('{"id": "q", "prompt": "1+1?"}', '1 rows share an id'),
    ('{"id": "\\u001b", "prompt": "1?"}', 'printable characters, got '),
  ],
)
def test_a_bad_line_of_prompts(run, tmp_path, line, message):
  path = tmp_path / 'bad.jsonl'
  path.write_text(f'{{"id": "q", "prompt": "0?"}}\n{line}\n')
  refused(run, message, prompts=path)
  assert not (tmp_path / 'out.jsonl').exists()


@pytest.mark.parametrize(
  'given, message',
  [
    (dict(prompts='/none/q.jsonl'), '/none/q.jsonl'),
    (dict(model='/none/such'), "model='/none/such': no such directory"),
    (dict(out='/none/out.jsonl'), '/none/out.jsonl'),
    (dict(n=0), '--n=0: give at least 1'),
    (dict(seed=-1), '--seed=-1: give 0 to 2**31 - 1'),
    (dict(top_p=0), '--top_p=0.0: give more than 0'),
    (dict(min_p=2), '--min_p=2.0: give 0 to 1'),
    (dict(max_tokens=64), '--max_tokens=64: the context of '),
    (dict(window=60), '--window=60: with --max_tokens=6 longer than'),
    (dict(stop=['a', '']), 'a stop string is empty'),
    (dict(stop=['<user>']), "--stop='<user>': responses never hold it"),
    (dict(page=3, chunk=2), 'page=3: give a multiple of chunk, 2'),
    (dict(slots=3), 'slots=3: give a multiple of shards, 4'),
    (dict(pages=4, page=1, chunk=1), 'pages=2 on each of 4 shards: one rollo'),
    (dict(page=1 << 40), '2 pages of 1099511627776 tokens take'),
    (
      dict(data=3),
      'data=3 fsdp=1 tensor=1 sequence=1 does not cover 4 devices',
    ),
    (dict(data=1, fsdp=1, tensor=3), 'does not cover 4 devices'),
    (dict(thinking_budget=2), 'has no token </think>'),
  ],
)
def test_a_bad_flag(run, given, message):
  refused(run, message, **given)


@pytest.mark.parametrize('missing', ['config.json', 'model.safetensors'])
def test_an_incomplete_model_directory(run, tmp_path, missing):
  model = tiny.write_model(tmp_path / 'model')
  (model / missing).unlink()
  refused(run, missing, model=model)


def test_a_run_generates_what_its_export_does(run, folder, tmp_path):
  """And goes on only from the checkpoint it began with."""
  workdir = test_serve.save_run(
    tmp_path / 'run', folder / 'model', test_serve.ADAPTERS, 3
  )
  export.export(workdir, str(tmp_path / 'exported'))
  out, other = tmp_path / 'out.jsonl', tmp_path / 'other.jsonl'
  assert run(model=workdir, n=2)[0] == 0
  assert run(model=tmp_path / 'exported', n=2, out=other)[0] == 0
  assert by_key(out) == by_key(other)
  by_step = workdir / 'checkpoints' / '3'
  assert 'finished already' in run(model=by_step, n=2)[1]
  test_serve.save_run(workdir, folder / 'model', test_serve.ADAPTERS, 4)
  refused(run, 'checkpoint: "[3, ', model=workdir, n=2)


def test_a_tokenizer_of_another_model(run, tmp_path):
  model = tiny.write_model(tmp_path / 'model', vocab_size=1)
  refused(run, 'is outside its vocabulary of 1; is the', model=model)


def test_a_prompt_that_does_not_fit_costs_its_own_lines_alone(run, tmp_path):
  out, alone = tmp_path / 'out.jsonl', tmp_path / 'alone.jsonl'
  good = dict(id='good', problem='1+1?', answer='2')
  path = write_prompts(
    tmp_path / 'p.jsonl', dict(id='long', prompt='1+' * 40 + '1?'), good
  )
  status, said = run(n=2, prompts=path)
  assert status == 0 and 'errors 2' in said
  records = by_key(out)
  for index in range(2):
    record = records['long', index]
    assert record['stop'] == 'error' and record['length'] == 0
    assert record['detail'].startswith('a prompt of 84 tokens; at most 58 fit')
  path = write_prompts(tmp_path / 'one.jsonl', good)
  run(n=2, prompts=path, out=alone, window=58)
  for key, record in by_key(alone).items():
    assert records[key] == record
  # An error is a line like any other: done.
  assert 'finished already' in run(n=2, prompts=tmp_path / 'p.jsonl')[1]


def test_what_a_line_holds(run, folder, tmp_path):
  out = tmp_path / 'out.jsonl'
  run(tokens='true', stop=['ab', '7'], n=8)
  tokenizer = tokens.load_tokenizer(str(folder / 'model'))
  ended = 0
  for record in lines_of(out):
    ids = np.array(record['tokens'])
    assert len(ids) == len(record['logps']) == record['length']
    assert sum(record['logps']) == pytest.approx(record['logp'], rel=1e-6)
    assert max(record['logps']) < 0
    assert record['text'] == tokens.decode(tokenizer, ids)
    assert 'forced' not in record and 'detail' not in record
    if record['text'].endswith(('ab', '7')):
      ended += 1
      assert record['stop'] == 'stop'
      assert not any(s in record['text'][:-1] for s in ('ab', '7'))
  assert ended


def test_thinking_ends_where_its_budget_does(run, tmp_path, monkeypatch):
  monkeypatch.setattr(tiny, 'SPECIAL', (*tiny.SPECIAL, '</think>'))
  size = len(tiny.SPECIAL) + len(tiny.LETTERS)
  model = tiny.write_model(tmp_path / 'model', vocab_size=size)
  close = tiny.SPECIAL.index('</think>')
  given = dict(model=model, thinking_budget=2, thinking_end='so </think>')
  assert run(**given, max_tokens=9, tokens='true', n=4)[0] == 0
  forced = [r for r in lines_of(tmp_path / 'out.jsonl') if 'forced' in r]
  assert forced
  for record in forced:
    assert record['forced'] == [2, 6]
    assert record['tokens'][5] == close
    assert record['logps'][2:6] == [0.0] * 4
  refused(run, 'leaves nothing of --max_tokens=6', **given)
  given['thinking_end'] = 'so'
  refused(run, "--thinking_end='so': holds no </think>", **given)


def test_hostile_text_stays_in_the_file(run, tmp_path):
  path = write_prompts(
    tmp_path / f'{HOSTILE.replace("/", "")}.jsonl',
    dict(id='</script><b>', prompt=HOSTILE),
  )
  out = tmp_path / '\x1b[31m.jsonl'
  status, said = run(prompts=path, out=out, system=HOSTILE, suffix=HOSTILE)
  assert status == 0
  assert said.count('\n') == 1 and said[:-1].isprintable()
  assert out.read_text()[:-1].isprintable()
  page = tmp_path / 'page.html'
  assert timeline.main(['', f'{out}.timeline.jsonl', str(page)]) == 0
  assert '</script' not in page.read_text()
  # A model's text is one line, whatever is in it.
  with output.Output(str(tmp_path / 'more.jsonl'), {}) as file:
    record = dict(id='q', index=0, length=1, text=HOSTILE + '\u2028\ud800')
    file.write(record)
  assert lines_of(tmp_path / 'more.jsonl') == [record]


def test_a_file_that_is_deleted_meanwhile_is_one_line(
  run, monkeypatch, tmp_path
):
  """Nobody would find text written to it after that."""
  out = tmp_path / 'out.jsonl'
  write = output.Output.write

  def deleting(self, record):
    write(self, record)
    out.unlink()

  monkeypatch.setattr(output.Output, 'write', deleting)
  refused(run, f'{out}: it was deleted while it was written')


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /dev/full')
def test_a_full_disk_is_one_line(run, monkeypatch, tmp_path):
  full = open('/dev/full', 'ab')  # noqa: SIM115, Output closes it.
  enter = output.Output.__enter__

  def entered(self):
    enter(self)
    self._file.close()
    self._file = full
    return self

  monkeypatch.setattr(output.Output, '__enter__', entered)
  said = refused(run, 'o space left on')
  assert str(tmp_path / 'out.jsonl') in said
