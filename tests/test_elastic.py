"""A run goes on with other numbers of processes, devices and another mesh.

What was decoded is not decoded again, and the ledger is that of a run that
nothing disturbed. Waiting has a guard, which says that a run hangs.
"""

import json
import re
from typing import NamedTuple

import gangs
import object_store
import pytest
from runs import ledger_of, metrics_of

from acereason_jax import storage
from acereason_jax.curriculum import parquet
from acereason_jax.run import checkpoint, entries

pytestmark = [pytest.mark.hosts, pytest.mark.usefixtures('compiled_once')]
STEPS, ROLLOUTS = 6, 16
# Step 4 dies while its rollouts are on their way; 2 is saved by then, or not.
DIES = 'sample@3'


class Gang(NamedTuple):
  """processes x devices of each, and the meshes over all of them.

  `rollouts` is the tensor axis of their mesh; 0 is that of the other one.
  """

  processes: int
  devices: int = 1
  tensor: int = 1
  data: int = 1
  rollouts: int = 0

  def start(self, command, workdir, steps, **how):
    flags = [
      f'--config.mesh.tensor={self.tensor}',
      f'--config.mesh.data={self.data}',
      f'--config.rollout_mesh.tensor={self.rollouts}',
      '--config.checkpoint.every=2',
      f'--config.steps={steps}',
    ]
    how = dict(devices=self.devices, config='tiny_config') | how
    if self.processes == 1:
      return [command(workdir, *flags, **how)]
    return gangs.start(command, workdir, self.processes, *flags, **how)


CASES = [
  (Gang(2), Gang(1)),
  (Gang(2), Gang(4)),
  (Gang(4), Gang(2)),
  (Gang(1), Gang(2)),
  (Gang(2), Gang(1, 2, tensor=2)),
  (Gang(1, 4, data=2), Gang(2, 2, tensor=2)),
  (Gang(2, 2, tensor=4), Gang(1, 2)),
  (Gang(1, 4, rollouts=2), Gang(2, 2, rollouts=4)),
  (Gang(2, 2, tensor=2, rollouts=1), Gang(1, 4, data=2, rollouts=2)),
]


@pytest.fixture(scope='module')
def reference(folder, command):
  """The folder of the run that nothing disturbed."""
  workdir = folder / 'reference'
  (run,) = Gang(1).start(command, workdir, STEPS)
  run.ends(0)
  return workdir


def kept_tokens(workdir):
  """The tokens of the rollouts in a journal, by step, from all its files."""
  found = {}
  folder = storage.join(workdir, 'journal')
  for name in storage.names(folder):
    content = storage.read(storage.join(folder, name), 1 << 30)
    for key, value in entries.read(content, content[:44]).records:
      if key.phase == 'train' and hasattr(value, 'tokens'):
        found[key] = len(value.tokens)
  tokens = {}
  for key, count in found.items():
    tokens[key.step] = tokens.get(key.step, 0) + count
  return tokens


def ended(runs):
  """Their output, in which the first process's comes first."""
  said, *_ = [run.ends(0) for run in runs]
  return said


@pytest.mark.parametrize('before, after', CASES)
def test_another_gang_goes_on(reference, command, tmp_path, before, after):
  workdir = tmp_path / 'run'
  for run in before.start(command, workdir, 4, script=DIES):
    assert run.end() != 0
  kept = kept_tokens(workdir)
  assert 3 in kept, 'it died before it kept anything'
  said = ended(after.start(command, workdir, 4))
  saved = re.search(r'going on after step (\d+)', said)
  first = int(saved[1]) if saved else 0
  rows = metrics_of(workdir, all_fields=True)
  assert [row['step'] for row in rows] == [1, 2, 3, 4]
  for row in rows[first:]:
    whole = row['response_length'] * ROLLOUTS
    left = whole - kept[row['step'] - 1]
    assert row['decoded_tokens'] == pytest.approx(left, abs=1e-3)
  assert 0 < left < whole
  # And back, from a checkpoint of the other mesh.
  said = ended(before.start(command, workdir, STEPS))
  assert 'going on after step 4' in said
  assert ledger_of(workdir, STEPS) == ledger_of(reference, STEPS)
  ours, theirs = metrics_of(workdir), metrics_of(reference)
  for name in ('pass_rate', 'response_length'):
    assert [r.get(name) for r in ours] == [r.get(name) for r in theirs]
  # Nobody's files are left behind.
  steps = {p.name.split('-')[1] for p in workdir.glob('journal/*.journal')}
  assert steps <= {'4.journal', '5.journal'}


def test_another_gang_goes_on_in_a_bucket(reference, command, tmp_path):
  """Killed in the middle of a step; each restart waits for the lease."""
  with object_store.started(tmp_path / 'store'):
    workdir = 'gs://runs/elastic'
    for run in Gang(2).start(command, workdir, 4, script=DIES):
      assert run.end() != 0
    kept = kept_tokens(workdir)
    assert sum(kept.values())
    said = ended(Gang(1, 2, tensor=2).start(command, workdir, 4))
    saved = re.search(r'going on after step (\d+)', said)
    lines = storage.read(f'{workdir}/metrics.jsonl', 1 << 20).splitlines()
    for row in map(json.loads, lines[int(saved[1]) if saved else 0 :]):
      left = row['response_length'] * ROLLOUTS - kept.get(row['step'] - 1, 0)
      assert row['decoded_tokens'] == pytest.approx(left, abs=1e-3)
    assert 'going on after step 4' in ended(
      Gang(2).start(command, workdir, STEPS)
    )
    found = checkpoint.load_ledger(f'{workdir}/checkpoints/{STEPS}')
    assert parquet.from_bytes(found) == ledger_of(reference, STEPS)
