"""Commands over the tiny model, and what their runs left.

Waiting has a guard, which says that a run hangs; nothing here is timed.
"""

import json
import threading

import forked
import jax
import numpy as np
import orbax.checkpoint as ocp
import tiny

from acereason_jax import types
from acereason_jax.curriculum import parquet
from acereason_jax.data import archive
from acereason_jax.run import checkpoint, metrics

GUARD = 600


class Command:
  """A training command over the tiny model; `output` is its printed text."""

  def __init__(
    self,
    folder,
    cache,
    workdir,
    *flags,
    script=None,
    by='dying',
    devices=1,
    fresh=False,
    config='tiny_config',
    cwd=None,
    env=types.EMPTY,
  ):
    head = [tiny.TESTS / f'{by}.py', script] if script else []
    head = head or ['-m', 'acereason_jax.train']
    flags = [f'--config={folder / config}.py', *flags]
    self.output = ''
    self.process = forked.command(
      [*map(str, head), *flags, f'--workdir={workdir}'],
      tiny.environment(cache, devices) | env,
      fresh,
      cwd,
    )
    self._guard = threading.Timer(GUARD, self.process.kill)
    self._guard.start()

  def wait_for(self, text: str) -> None:
    while text not in self.output:
      line = self.process.stdout.readline()
      assert line, f'ended without {text!r}:\n{self.output}'
      self.output += line

  def end(self) -> int:
    """The exit status."""
    try:
      self.output += self.process.communicate()[0]
    finally:
      self._guard.cancel()
      self.process.kill()
    # Lines of libraries on this machine, not ours.
    self.output = ''.join(
      line
      for line in self.output.splitlines(keepends=True)
      if not line.startswith(('[transformers]', '[Gloo]'))
    )
    return self.process.returncode

  def ends(self, status: int) -> str:
    got = self.end()
    assert got == status, f'exit status {got}:\n{self.output}'
    assert 'Traceback' not in self.output
    return self.output


def state_of(workdir, step):
  path = workdir / 'checkpoints' / str(step) / 'state'
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
    tree = reader.metadata(path).item_metadata.tree
    as_numpy = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
    )
    return reader.restore(
      path, args=ocp.args.PyTreeRestore(restore_args=as_numpy)
    )


def saved_steps(workdir):
  names = [p.name for p in (workdir / 'checkpoints').iterdir()]
  return sorted(int(name) for name in names if name.isdigit())


def refuse(constant):
  raise ValueError(f'{constant} is not JSON')


def metrics_of(workdir, but=(), *, all_fields=False):
  """The lines of metrics.jsonl without what is `metrics.MEASURED`, or `but`."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  records = [json.loads(line, parse_constant=refuse) for line in lines]
  but = () if all_fields else (*metrics.MEASURED, *but)
  return [
    {k: v for k, v in record.items() if not k.startswith(but)}
    for record in records
  ]


def assert_same_run(workdir, other, step, but=()):
  a, b = state_of(workdir, step), state_of(other, step)
  assert jax.tree.structure(a) == jax.tree.structure(b)
  assert len(jax.tree.leaves(a['opt_state'])) > len(
    jax.tree.leaves(a['params'])
  )
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
  assert metrics_of(workdir, but)[:step] == metrics_of(other, but)[:step]
  ours, theirs = ledger_of(workdir, step), ledger_of(other, step)
  assert len(ours) and ours == theirs
  ours, theirs = trained_rollouts(workdir, step), trained_rollouts(other, step)
  assert len(ours) >= step and ours == theirs


def kept_rollouts(workdir):
  """The files below rollouts/: their bytes, by name."""
  folder = workdir / archive.FOLDER
  found = [path for path in folder.rglob('*') if path.is_file()]
  return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def trained_rollouts(workdir, step):
  """Those of the steps up to `step`."""
  places = {n: archive.place(n.split('/')[-1]) for n in kept_rollouts(workdir)}
  return {
    name: content
    for name, content in kept_rollouts(workdir).items()
    if (at := places[name]) and at.phase == archive.TRAIN and at.step <= step
  }


def ledger_of(workdir, step):
  path = workdir / 'checkpoints' / str(step)
  return parquet.from_bytes(checkpoint.load_ledger(path))
