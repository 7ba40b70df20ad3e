"""Every fault of a machine, tried on gangs of real processes.

    python tests/faults.py --processes=2 [NAME ...]
    python tests/faults.py --processes=2 --kills=20

prints a line of docs/launch.md's table for each: what was said, the exit
statuses, the seconds until every process had ended, and whether the same
command then ended like a run without a fault. With --kills it kills runs in a
bucket at random instead. A host is a folder: its process has that as its
working directory, with its own copy of the model and the data.
"""

import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import gangs
import numpy as np
import object_store
import psutil
import safetensors.numpy
import tiny
from runs import Command, assert_same_run

from acereason_jax import storage, types

STEPS = 4
# Low, so that a fault is found at once; a real run has minutes.
LOW = ('--join_seconds=20', '--peer_seconds=10', '--hang_seconds=30')
OWN = (
  '--config.model=model',
  '--config.train_data.path=train.jsonl',
  '--config.heldout_data.path=heldout.jsonl',
  f'--config.steps={STEPS}',
)


class Skipped(Exception):
  """This machine cannot have the fault; the message says why."""


class Gang:
  """The processes of one run, each on a host of its own.

  `store` holds the run's folder; None: a disk that all hosts share does.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    count: int,
    name: str,
    store: object_store.Store | None = None,
  ):
    self.folder, self.count, self.store = folder, count, store
    self.home = folder / f'{name}-{count}'
    self.workdir = self.home / 'run'
    if store is not None:
      self.workdir = storage.join(store.make_bucket('runs'), self.home.name)
    self.hosts = [self.home / f'host-{i}' for i in range(count)]
    self.settle()
    self.runs: list[Command] = []

  def settle(self) -> None:
    """Gives each host its own copy of the model and the data."""
    for host in self.hosts:
      shutil.rmtree(host, ignore_errors=True)
      shutil.copytree(self.folder / 'model', host / 'model')
      for data in ('train', 'heldout'):
        shutil.copy(self.folder / f'{data}.jsonl', host)

  def start(
    self,
    *flags: str,
    own: Mapping[int, Sequence[str]] = types.EMPTY,
    how: Mapping[int, Mapping] = types.EMPTY,
    present: Sequence[int] | None = None,
    workdir: str | pathlib.Path | None = None,
  ) -> None:
    """Starts the processes; `own` has flags, `how` arguments of Command."""
    self.began = time.monotonic()
    meeting = gangs.flags(self.count)
    env = self.store.environment if self.store else {}
    # A store may be away for a minute: then a save takes longer than that.
    flags = *flags, *(['--hang_seconds=300'] if self.store else [])
    self.runs = [
      Command(
        self.folder,
        self.folder / 'compiled',
        workdir or self.workdir,
        *OWN,
        *LOW,
        *flags,
        *meeting[i],
        *own.get(i, ()),
        **dict(cwd=self.hosts[i], env=env) | dict(how.get(i, {})),
      )
      for i in (range(self.count) if present is None else present)
    ]

  def goes_wrong(self) -> None:
    """From here on the seconds count."""
    self.began = time.monotonic()

  def ends(self, seconds: float = 240) -> list[int]:
    """All exit statuses; a process that is still there is an error."""
    threads = [threading.Thread(target=run.end) for run in self.runs]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join(max(0.0, self.began + seconds - time.monotonic()))
    self.seconds = time.monotonic() - self.began
    alive = [i for i, t in enumerate(threads) if t.is_alive()]
    for run in self.runs:
      run.process.kill()
    for thread in threads:
      thread.join()
    assert not alive, f'{alive} still there:\n' + self.said()
    return [run.process.returncode for run in self.runs]

  def said(self) -> str:
    return '\n'.join(
      f'--- {i}:\n{run.output}' for i, run in enumerate(self.runs)
    )

  def last_lines(self) -> list[str]:
    """What the user is told: the lines of errors and losses, each once."""
    lines = [
      line
      for run in self.runs
      for line in run.output.splitlines()
      if re.match(r'error: |stopped and saved', line)
    ]
    return list(dict.fromkeys(lines))


class Fault(NamedTuple):
  """A fault.

  start: arguments of Gang.start for a gang with the fault.
  inject: what is done once the run is at its second step; None if the fault is
    there from the start.
  codes: the exit statuses that may follow, for any process.
  says: pattern that a line of some process must match; '' if none.
  resumes: whether the same command, without the fault, then ends the run.
  on_store: whether the run's folder is in a bucket.
  """

  start: Callable[[Gang], dict]
  inject: Callable[[Gang], None] | None
  codes: tuple[int, ...]
  says: str
  resumes: bool = True
  on_store: bool = False


def nothing(gang: Gang) -> dict:
  return {}


def signalled(index: int, number: int) -> Callable[[Gang], None]:
  return lambda gang: gang.runs[index].process.send_signal(number)


def frozen(index: int) -> Callable[[Gang], None]:
  """Stops a process; it is killed once all others have ended, as by a node
  that is replaced."""

  def inject(gang: Gang) -> None:
    victim = gang.runs[index].process
    victim.send_signal(signal.SIGSTOP)

    def wait() -> None:
      for run in gang.runs:
        if run.process is not victim:
          run.process.wait()
      victim.kill()

    threading.Thread(target=wait).start()

  return inject


def child(index: int, pattern: str, number: int) -> Callable[[Gang], None]:
  """Sends a signal to a child process whose command line has `pattern`."""

  def inject(gang: Gang) -> None:
    mother = psutil.Process(gang.runs[index].process.pid)
    found = [
      p
      for p in mother.children(recursive=True)
      if pattern in ' '.join(p.cmdline())
    ]
    assert found, [p.cmdline() for p in mother.children(recursive=True)]
    found[0].send_signal(number)

  return inject


def last(gang: Gang) -> int:
  return gang.count - 1


def other_weights(gang: Gang) -> dict:
  """The last host's model has the same shapes and one other number."""
  file = gang.hosts[-1] / 'model' / 'model.safetensors'
  tensors = dict(safetensors.numpy.load_file(file))
  name = sorted(tensors)[0]
  tensors[name] = tensors[name] + np.float32(1e-3)
  safetensors.numpy.save_file(tensors, file)
  return {}


def other_tokenizer(gang: Gang) -> dict:
  file = gang.hosts[-1] / 'model' / 'tokenizer.json'
  text = file.read_text()
  swapped = text.replace('"a": ', '"\0": ').replace('"b": ', '"a": ')
  assert text != swapped
  file.write_text(swapped.replace('"\0": ', '"b": '))
  return {}


def other_data(gang: Gang) -> dict:
  file = gang.hosts[-1] / 'train.jsonl'
  file.write_text(file.read_text().replace('"1"', '"0"', 1))
  return {}


def other_config(field: str) -> Callable[[Gang], dict]:
  return lambda gang: dict(own={last(gang): [f'--config.{field}']})


def other_code(gang: Gang) -> dict:
  """The last host has a copy of the package with one more comment."""
  copy = gang.home / 'code'
  shutil.copytree(tiny.TESTS.parent / 'acereason_jax', copy / 'acereason_jax')
  with (copy / 'acereason_jax' / 'types.py').open('a') as file:
    file.write('# Another version.\n')
  paths = os.pathsep.join([str(copy), str(tiny.TESTS)])
  # -P: else the working directory, and `fresh`: a fork has the code already.
  return dict(
    how={last(gang): dict(fresh=True, env=dict(PYTHONPATH=paths))},
  )


def own_workdir(gang: Gang) -> dict:
  return dict(workdir='run')


def absent(gang: Gang) -> dict:
  return dict(present=range(gang.count - 1))


@contextlib.contextmanager
def mounted(path: pathlib.Path, *commands: Sequence[str]):
  path.mkdir(parents=True, exist_ok=True)
  for command in commands:
    if subprocess.run(command, capture_output=True).returncode:
      raise Skipped('cannot mount; needs root')
  try:
    yield
  finally:
    subprocess.run(['umount', '-l', path], check=True)


def read_only(gang: Gang) -> dict:
  """The run's folder is read-only on the last host."""
  place = gang.hosts[-1] / 'run'
  gang.workdir.mkdir()
  for host in gang.hosts[:-1]:
    (host / 'run').symlink_to(gang.workdir)
  gang.stack.enter_context(
    mounted(
      place,
      ['mount', '--bind', gang.workdir, place],
      ['mount', '-o', 'remount,ro,bind', place],
    )
  )
  return dict(workdir='run')


def small_disk(gang: Gang) -> dict:
  disk = gang.workdir
  gang.stack.enter_context(
    mounted(disk, ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'none', disk])
  )
  return {}


def fill(gang: Gang) -> None:
  filler = gang.workdir / 'filler'
  with contextlib.suppress(OSError), filler.open('wb') as file:
    while True:
      file.write(bytes(4096))
      file.flush()


def hang(place: str, of: int = -1) -> Fault:
  """A thread that sleeps for ever in a phase of one process."""

  def start(gang: Gang) -> dict:
    index = range(gang.count)[of]
    return dict(how={index: dict(by='hanging', script=place)})

  return Fault(start, None, (70,), r'error: process \d on .*no progress')


def store_for(seconds: float, change, back) -> Callable[[Gang], None]:
  """Changes the store, and changes it back after so many seconds."""

  def inject(gang: Gang) -> None:
    change(gang.store)
    timer = threading.Timer(seconds, back, [gang.store])
    timer.start()
    gang.stack.callback(timer.join)

  return inject


def set_status(status: int) -> Callable[[object_store.Store], None]:
  return lambda store: setattr(store, 'status', status)


def set_delay(seconds: float) -> Callable[[object_store.Store], None]:
  return lambda store: setattr(store, 'delay', seconds)


def on_store(seconds: float, change, back) -> Fault:
  """A fault of the store that a run survives."""
  inject = store_for(seconds, change, back)
  return Fault(nothing, inject, (0,), '', False, True)


KILLED = (-9, 70)
WORKER, ZYGOTE = 'verifiers.pool.worker', 'zygote'
FAULTS = {
  'kill -9 of a worker': Fault(
    nothing, signalled(-1, signal.SIGKILL), KILLED, r'error: lost process \d'
  ),
  'kill -9 of process 0': Fault(
    nothing, signalled(0, signal.SIGKILL), KILLED, 'error: lost process 0'
  ),
  'kill -9 of a judge': Fault(
    nothing, child(-1, WORKER, signal.SIGKILL), (0,), '', False
  ),
  'SIGSTOP of a judge': Fault(
    nothing, child(-1, WORKER, signal.SIGSTOP), (1,), 'verdicts failed'
  ),
  'SIGSTOP of a worker': Fault(
    nothing, frozen(-1), KILLED, r'error: lost process \d'
  ),
  'SIGSTOP of process 0': Fault(
    nothing, frozen(0), KILLED, 'error: lost process 0'
  ),
  'SIGTERM to a worker': Fault(
    nothing, signalled(-1, signal.SIGTERM), (75,), 'stopped and saved'
  ),
  'SIGTERM to process 0': Fault(
    nothing, signalled(0, signal.SIGTERM), (75,), 'stopped and saved'
  ),
  'a host never arrives': Fault(absent, None, (1,), r'error: .*process \d'),
  'other weights': Fault(other_weights, None, (1,), 'error: .*model'),
  'other tokenizer': Fault(other_tokenizer, None, (1,), 'error: .*tokenizer'),
  'other data': Fault(other_data, None, (1,), 'error: .*train'),
  'another seed': Fault(other_config('seed=7'), None, (1,), 'error: .*seed.*7'),
  'another learning rate': Fault(
    other_config('optim.learning_rate=0.5'), None, (1,), 'error: .*0.5'
  ),
  'other rollouts a prompt': Fault(
    other_config('rollout.per_prompt=8'), None, (1,), 'error: .*per_prompt'
  ),
  'other code': Fault(other_code, None, (1,), 'error: .*(source|code)'),
  'a folder that hosts do not share': Fault(
    own_workdir, None, (1,), 'error: .*folder'
  ),
  'a read-only folder': Fault(read_only, None, (1,), 'error: .*run'),
  'a full disk': Fault(small_disk, fill, (1,), 'error: .*o space', False),
  'hang while loading': hang('load@-1'),
  'hang while prompts are drawn': hang('draw@2'),
  'hang while sampling': hang('sample@2'),
  'hang while judging': hang('judge@2'),
  'hang in the exchange of verdicts': hang('exchange@2'),
  'hang in the update': hang('update@2'),
  'hang in a save': hang('save@2'),
  'hang of process 0 in the update': hang('update@2', 0),
  'kill -9 of a worker, gs://': Fault(
    nothing,
    signalled(-1, signal.SIGKILL),
    KILLED,
    r'error: lost process \d',
    on_store=True,
  ),
  'the store is down for 60 s': on_store(
    60, object_store.Store.stop, object_store.Store.start
  ),
  'the store does not answer for 60 s': on_store(
    60, object_store.Store.pause, object_store.Store.go_on
  ),
  'the store answers 503 for 60 s': on_store(
    60, set_status(503), set_status(0)
  ),
  'the store takes a second for an answer': on_store(
    30, set_delay(1.0), set_delay(0.0)
  ),
}


class Row(NamedTuple):
  """What a fault led to.

  codes: exit statuses, in the order of processes.
  seconds: from the fault until all had ended.
  lines: lines of errors.
  resumed: whether the same command then ended as an unbroken run.
  """

  codes: list[int]
  seconds: float
  lines: list[str]
  resumed: bool | None


def prove(
  fault: Fault,
  name: str,
  folder: pathlib.Path,
  count: int,
  store: object_store.Store,
) -> Row:
  """Raises AssertionError unless the fault ends as it must."""
  slug = re.sub(r'\W+', '-', name)
  gang = Gang(folder, count, slug, store if fault.on_store else None)
  with contextlib.ExitStack() as gang.stack:
    how = fault.start(gang)
    gang.start(**how)
    if fault.inject is not None:
      gang.runs[0].wait_for('step 1/')
      gang.goes_wrong()
      fault.inject(gang)
    codes = gang.ends()
    assert set(codes) <= set(fault.codes), f'{codes}\n{gang.said()}'
    lines = gang.last_lines()
    assert re.search(fault.says, '\n'.join(lines)), gang.said()
    row = Row(codes, gang.seconds, lines, None)
    assert 'Traceback' not in gang.said(), gang.said()
  if codes == [0] * count:
    assert_like(gang, folder, count)
  if not fault.resumes:
    return row
  gang.settle()
  gang.start()
  codes = gang.ends(300)
  assert codes == [0] * count, gang.said()
  assert_like(gang, folder, count)
  return row._replace(resumed=True)


def assert_like(gang: Gang, folder: pathlib.Path, count: int) -> None:
  assert_same_run(on_disk(gang), unbroken(folder, count), STEPS)


def on_disk(gang: Gang) -> pathlib.Path:
  """The run's folder, or a copy of it from its bucket."""
  if gang.store is None:
    return gang.workdir
  copy = pathlib.Path(tempfile.mkdtemp(dir=gang.home))
  for name in storage.names(gang.workdir):
    content = storage.read(storage.join(gang.workdir, name), 1 << 30)
    storage.write(copy / name, content)
  return copy


def unbroken(folder: pathlib.Path, count: int) -> pathlib.Path:
  """The folder of a run of `count` processes without a fault."""
  workdir = folder / f'unbroken-{count}' / 'run'
  if not workdir.exists():
    gang = Gang(folder, count, 'unbroken')
    gang.start()
    codes = gang.ends(600)
    assert codes == [0] * count, gang.said()
  return workdir


def killed_at_random(
  kills: int, folder: pathlib.Path, count: int, store: object_store.Store
) -> int:
  """Kills runs in a bucket so often in all; returns how many runs it took.

  Each must end as the run that was not killed.
  """
  random_, runs = random.Random(kills), 0
  while kills:
    gang = Gang(folder, count, f'killed-{runs}', store)
    runs += 1
    while True:
      # Three starts in a row that are killed early would end the run.
      storage.remove(storage.join(gang.workdir, 'starts.jsonl'))
      gang.start()
      victim = gang.runs[random_.randrange(count)].process
      seconds = random_.uniform(1, 20) if kills else 600
      with contextlib.suppress(subprocess.TimeoutExpired):
        victim.wait(seconds)
      ended = victim.poll() is not None
      victim.kill()
      codes = gang.ends()
      if ended:
        assert codes == [0] * count, gang.said()
        break
      kills -= 1
      # 1: it was killed before all had met, and the others say who is missing.
      assert set(codes) <= {-9, 70, 1}, f'{codes}\n{gang.said()}'
      assert 'Traceback' not in gang.said(), gang.said()
      print(f'{kills} kills left; {gang.last_lines()}', flush=True)
    assert_like(gang, folder, count)
  return runs


def main(argv: Sequence[str]) -> int:
  options = dict(a[2:].split('=') for a in argv[1:] if a.startswith('--'))
  count = int(options.get('processes', 2))
  names = [a for a in argv[1:] if not a.startswith('--')] or list(FAULTS)
  failed = []
  with tempfile.TemporaryDirectory() as path, contextlib.ExitStack() as stack:
    folder = pathlib.Path(path)
    tiny.write(folder)
    (folder / 'store').mkdir()
    store = stack.enter_context(object_store.Store(folder / 'store'))
    os.environ.update(store.environment)
    unbroken(folder, count)
    if kills := int(options.get('kills', 0)):
      runs = killed_at_random(kills, folder, count, store)
      print(f'{kills} kills of {count} processes in {runs} runs: the same bits')
      return 0
    for name in names:
      try:
        row = prove(FAULTS[name], name, folder, count, store)
      except Skipped as e:
        print(f'| {name} | skipped: {e} |', flush=True)
        continue
      except AssertionError as e:
        failed.append(name)
        print(f'| {name} | FAILED |\n{e}', flush=True)
        continue
      end = 'went on' if set(row.codes) == {0} else 'ended'
      end = 'resumed, the same bits' if row.resumed else end
      said = ' / '.join(line[:300] for line in row.lines)
      codes = ' '.join(map(str, row.codes))
      print(
        f'| {name} | {said} | {codes} | {row.seconds:.1f} | {end} |',
        flush=True,
      )
  print(f'{len(failed)} of {len(names)} failed: {failed}')
  return bool(failed)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
