"""What launch/ writes, next to validators of others; what it refuses.

Nothing is started here, and no cluster is there.
"""

import copy
import itertools
import json
import os
import re
import stat
import subprocess
import sys
import types
import urllib.request

import kubernetes_validate
import object_store
import pytest
import tiny
import yaml
from kubeflow_trainer_api.models import jobset_v1alpha2_job_set

from acereason_jax import machines
from launch import job as job_lib
from launch import local, planned, render, status, sweeps, xm_launch

ROOT = tiny.TESTS.parent
SCRIPT = ROOT / 'launch' / 'xm_launch.py'
HARDWARE = (
  *('cpu:1', 'cpu:2', 'v5e:1x1', 'v5e:16x16', 'v5p:4x4x4', 'v5p:4x4x8*2'),
  *('v6e:2x2', 'v6e:8x8*4', 'tpu7x:2x2x1', 'tpu7x:4x4x4', 'a100:8', 'a100:2'),
  *('h100:8', 'h100:8*4', 'h200:8*2', 'b200:1'),
)
# The values of these have names that users choose.
FREE = ('labels', 'annotations', 'nodeSelector', 'limits', 'envs', 'secrets')
FLAGS = ('--config=configs/acereason_7b.py', "--config.mix={'a': '$(HOME) $$'}")


def job(text, **changes):
  made = job_lib.Job(
    'acereason-7b', machines.hardware(text), FLAGS, 'registry/image:1'
  )
  return made._replace(**changes)


def of_kind(platform):
  kinds = machines.KINDS
  return [t for t in HARDWARE if kinds[t.split(':')[0]].platform == platform]


def check_jobset(document):
  """Raises an error for what Kubernetes or JobSet would not know.

  The Python models of JobSet leave out what they do not know.
  """
  model = jobset_v1alpha2_job_set.JobsetV1alpha2JobSet.from_dict(
    copy.deepcopy(document)
  )
  assert model.to_dict() == document
  for part in document['spec']['replicatedJobs']:
    inner = dict(
      apiVersion='batch/v1',
      kind='Job',
      metadata=dict(name='x'),
      spec=part['template']['spec'],
    )
    for version in ('1.31', '1.35'):
      kubernetes_validate.validate(inner, version, strict=True)


def keys(value, path=()):
  """The paths of all keys whose names a schema gives."""
  if isinstance(value, dict):
    for key, inner in value.items():
      yield (*path, key)
      if key not in FREE:
        yield from keys(inner, (*path, key))
  elif isinstance(value, list):
    for i, inner in enumerate(value):
      yield from keys(inner, (*path, i))


def misspelt(document, path):
  changed = copy.deepcopy(document)
  place = changed
  for key in path[:-1]:
    place = place[key]
  place[path[-1] + 'x'] = place.pop(path[-1])
  return changed


@pytest.mark.parametrize('text', HARDWARE)
def test_a_jobset_is_one(text):
  document = yaml.safe_load(render.jobset(job(text)))
  check_jobset(document)
  hardware = machines.hardware(text)
  [part] = document['spec']['replicatedJobs']
  spec = part['template']['spec']
  assert part['replicas'] * spec['completions'] == hardware.processes
  pod = spec['template']['spec']
  device = {'tpu': 'google.com/tpu', 'gpu': 'nvidia.com/gpu'}
  if name := device.get(hardware.kind.platform):
    assert pod['containers'][0]['resources'] == {
      'limits': {name: str(hardware.chips)}
    }


@pytest.mark.parametrize('text', ['v5p:4x4x8*2', 'h100:8*4'])
def test_a_misspelt_key_of_a_jobset_is_refused(text):
  made = job(text, queue='a-queue', secrets=('HF_TOKEN',))
  document = yaml.safe_load(render.jobset(made))
  check_jobset(document)
  paths = list(keys(document))
  assert len(paths) > 80
  for path in paths:
    with pytest.raises((AssertionError, ValueError, KeyError)):
      check_jobset(misspelt(document, path))


def test_pods_are_confined():
  document = yaml.safe_load(render.jobset(job('v5p:4x4x8*2')))
  text = json.dumps(document)
  assert 'privileged' not in text
  pod = document['spec']['replicatedJobs'][0]['template']['spec']['template'][
    'spec'
  ]
  assert pod['securityContext']['runAsNonRoot'] is True
  assert pod['securityContext']['runAsUser'] > 0
  [container] = pod['containers']
  assert container['securityContext'] == {
    'allowPrivilegeEscalation': False,
    'capabilities': {'drop': ['ALL']},
  }
  assert pod['automountServiceAccountToken'] is False
  # The trainer's own grace is a step and a save.
  assert pod['terminationGracePeriodSeconds'] >= 120


def expanded(text, variables):
  """What Kubernetes makes of $(NAME) and $$ in a container's arguments."""

  def one(match):
    if match[0] == '$$':
      return '$'
    return variables.get(match[1], match[0])

  return re.sub(r'\$\$|\$\(([^)]*)\)', one, text)


def words_of(text, **variables):
  """The words of the command that a shell's text ends with."""
  shown = text.replace('exec python', 'printf "%s\\0" python', 1)
  done = subprocess.run(
    ['bash', '-c', shown],
    env={'PATH': os.environ['PATH'], **variables},
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.split('\0')[:-1]


@pytest.mark.parametrize('text', ['v5p:2x2x2*3', 'h100:8*2', 'cpu:1'])
def test_every_pod_knows_who_it_is(text):
  hardware = machines.hardware(text)
  document = yaml.safe_load(render.jobset(job(text)))
  [part] = document['spec']['replicatedJobs']
  pod = part['template']['spec']['template']['spec']
  [container] = pod['containers']
  names = {entry['name'] for entry in container['env']}
  assert 'JOB_INDEX' in names
  assert container['command'] == ['bash', '-c']
  found = []
  for index, completion in itertools.product(
    range(part['replicas']), range(part['template']['spec']['completions'])
  ):
    # An Indexed Job sets this one.
    known = dict(
      JOB_INDEX=str(index), JOB_COMPLETION_INDEX=str(completion), HOME='/x'
    )
    [script] = container['args']
    words = words_of(expanded(script, known), **known)
    assert words[:3] == ['python', '-m', 'acereason_jax.train']
    # The user's flags arrive as they were given.
    assert tuple(words[3 : 3 + len(FLAGS)]) == FLAGS
    found.append(words[3 + len(FLAGS) :])
  if hardware.processes == 1:
    assert found == [[]]
    return
  host = f'acereason-7b-{part["name"]}-0-0.acereason-7b'
  assert found == [
    [
      f'--coordinator={host}:8476',
      f'--processes={hardware.processes}',
      f'--process={i}',
    ]
    for i in range(hardware.processes)
  ]


def ended(document, *, code=None, disrupted=False):
  """What JobSet does after a pod's end: by the rules, read independently."""
  [part] = document['spec']['replicatedJobs']
  spec = part['template']['spec']
  reason, message = 'BackoffLimitExceeded', ''
  for i, rule in enumerate(spec['podFailurePolicy']['rules']):
    codes = rule.get('onExitCodes', {}).get('values', ())
    if code in codes:
      message = (
        f'Container trainer for pod default/x failed with exit code {code} '
        f'matching FailJob rule at index {i}'
      )
    elif disrupted and 'onPodConditions' in rule:
      message = (
        'Pod default/x has condition DisruptionTarget matching FailJob rule at '
        f'index {i}'
      )
    else:
      continue
    reason = 'PodFailurePolicy'
    break
  for rule in document['spec']['failurePolicy']['rules']:
    patterns = rule.get('onJobFailureMessagePatterns', [''])
    if reason in rule['onJobFailureReasons'] and any(
      re.search(p, message) for p in patterns
    ):
      return rule['action']
  return 'RestartJobSet'


def test_what_follows_the_end_of_a_pod():
  document = yaml.safe_load(render.jobset(job('v5p:4x4x4')))
  spec = document['spec']['replicatedJobs'][0]['template']['spec']
  assert spec['backoffLimit'] == 0
  freely = 'RestartJobSetAndIgnoreMaxRestarts'
  for code in (1, 2):
    assert ended(document, code=code) == 'FailJobSet'
  for code in (70, 134, 137, 143, 12, 21):
    assert ended(document, code=code) == 'RestartJobSet'
    # Maintenance of a host, or a spot machine that is taken back.
    assert ended(document, code=code, disrupted=True) == freely
  assert ended(document, code=75) == freely
  assert document['spec']['failurePolicy']['maxRestarts'] > 0


def test_a_secret_is_a_name():
  made = job('h100:8*2', secrets=('HF_TOKEN',))
  document = yaml.safe_load(render.jobset(made))
  pod = document['spec']['replicatedJobs'][0]['template']['spec']['template'][
    'spec'
  ]
  entry = pod['containers'][0]['env'][-1]
  assert entry['name'] == 'HF_TOKEN' and 'value' not in entry
  assert entry['valueFrom']['secretKeyRef']['key'] == 'HF_TOKEN'
  assert yaml.safe_load(render.skypilot(made))['secrets'] == {'HF_TOKEN': None}
  assert 'HF_TOKEN' not in render.sbatch(made)


@pytest.mark.parametrize(
  'name', ['', 'A', 'a_b', '-a', 'a-', '1a', 'a.b', 'a' * 50, 'ä']
)
def test_a_name_that_kubernetes_refuses(name):
  with pytest.raises(ValueError, match=r'^--name='):
    render.jobset(job('v5p:4x4x4', name=name))


def test_the_longest_name():
  """A pod's name is JOBSET-JOB-INDEX-INDEX-XXXXX, with 63 characters."""
  longest = 63 - len('-slice-0-15-xxxxx')
  check_jobset(
    yaml.safe_load(render.jobset(job('v5p:4x4x4', name='a' * longest)))
  )
  with pytest.raises(ValueError, match='has 47 characters'):
    render.jobset(job('v5p:4x4x4', name='a' * (longest + 1)))


# Options of sbatch, from its manual page.
SBATCH = {
  *('job-name', 'nodes', 'ntasks-per-node', 'gpus-per-node', 'exclusive'),
  *('requeue', 'open-mode', 'output', 'signal', 'partition', 'cpus-per-gpu'),
}


@pytest.mark.parametrize('text', of_kind('gpu') + of_kind('cpu'))
def test_an_sbatch_file_is_one(text, tmp_path):
  content = render.sbatch(job(text, queue='part'))
  file = tmp_path / 'run.sbatch'
  file.write_text(content)
  subprocess.run(['bash', '-n', str(file)], check=True)
  lines = content.splitlines()
  assert lines[0] == '#!/bin/bash'
  options = dict(
    line.removeprefix('#SBATCH --').partition('=')[::2]
    for line in lines
    if line.startswith('#SBATCH')
  )
  assert options.keys() <= SBATCH
  hardware = machines.hardware(text)
  assert options['nodes'] == str(hardware.hosts)
  assert options['ntasks-per-node'] == '1'
  assert options['partition'] == 'part'
  gpus = hardware.kind.platform == 'gpu'
  assert options.get('gpus-per-node') == (str(hardware.chips) if gpus else None)
  # Slurm reads its lines only up to the first command.
  first = next(i for i, x in enumerate(lines) if x and not x.startswith('#'))
  assert not any(line.startswith('#SBATCH') for line in lines[first:])


@pytest.mark.parametrize(
  ('code', 'starts', 'again'),
  [
    *((0, 0, False), (1, 0, False), (2, 0, False)),
    *((70, 0, True), (75, 3, True), (134, 0, True), (137, 0, True)),
    *((143, 19, True), (70, 20, False)),
  ],
)
def test_what_slurm_does_after_the_end(code, starts, again, tmp_path):
  """The file itself, run by bash, with stand-ins for srun and scontrol."""
  said = tmp_path / 'said'
  stand_ins = {
    'srun': f'printf "%s\\n" "$@" > {said}; exit {code}',
    'scontrol': f'echo "scontrol $*" >> {said}',
  }
  for name, body in stand_ins.items():
    (tmp_path / name).write_text(f'#!/bin/sh\n{body}\n')
    (tmp_path / name).chmod(stat.S_IRWXU)
  file = tmp_path / 'run.sbatch'
  file.write_text(render.sbatch(job('h100:8*4')))
  done = subprocess.run(
    ['bash', str(file)],
    env={
      'PATH': f'{tmp_path}:{os.environ["PATH"]}',
      'SLURM_RESTART_COUNT': str(starts),
      'SLURM_JOB_ID': '17',
      'XLA_FLAGS': '--mine',
    },
  )
  assert done.returncode == code
  lines = said.read_text().splitlines()
  assert ('scontrol requeue 17' in lines) == again
  start = lines.index('python')
  end = start + 3 + len(FLAGS)
  assert lines[start:end] == [
    *('python', '-m', 'acereason_jax.train'),
    *FLAGS,
  ]
  assert lines[end] == '--coordinator=auto'


def test_the_users_own_flags_come_last():
  text = render.sbatch(job('h100:8*4')).partition('srun')[0]
  done = subprocess.run(
    ['bash', '-c', text + 'echo "$XLA_FLAGS"'],
    env=dict(XLA_FLAGS='--mine'),
    capture_output=True,
    text=True,
  )
  assert done.stdout.split()[-1] == '--mine'
  assert len(done.stdout.split()) == 2


@pytest.mark.parametrize(
  ('text', 'platform'),
  [('h100:8', 'cuda'), ('v5e:2x2', 'tpu'), ('cpu:1', 'cpu')],
)
def test_a_run_is_on_no_other_platform(text, platform, monkeypatch):
  """Whatever the user's shell says, which the scripts are run in."""
  made = job(text)
  monkeypatch.setenv('JAX_PLATFORMS', 'rocm')
  assert local.environment(made)['JAX_PLATFORMS'] == platform
  scripts = [render.script(made)]
  if platform != 'tpu':
    scripts.append(render.sbatch(made))
  for script in scripts:
    before = re.split('(?m)^(?:exec|srun)', script)[0]
    done = subprocess.run(
      ['bash', '-c', before + 'exec printenv JAX_PLATFORMS'],
      capture_output=True,
      text=True,
    )
    assert done.stdout == platform + '\n'
  task = yaml.safe_load(render.skypilot(made))
  assert task['envs']['JAX_PLATFORMS'] == platform
  [part] = yaml.safe_load(render.jobset(made))['spec']['replicatedJobs']
  [container] = part['template']['spec']['template']['spec']['containers']
  assert dict(name='JAX_PLATFORMS', value=platform) in container['env']


def test_machines_that_a_backend_lacks():
  for text in of_kind('tpu'):
    with pytest.raises(ValueError, match='--backend=slurm: has no'):
      render.sbatch(job(text))
  for text in ('tpu7x:2x2x1', 'v5p:4x4x8*2'):
    with pytest.raises(ValueError, match='--backend=sky: has no'):
      render.skypilot(job(text))
  for text in ('h100:8*4', 'v5p:4x4x4'):
    with pytest.raises(ValueError, match=r'--backend=local: .* hosts'):
      render.script(job(text))


def test_a_local_script_is_one(tmp_path):
  for text in ('cpu:1', 'cpu:2', 'h100:8', 'v5e:2x2'):
    script = render.script(job(text))
    subprocess.run(['bash', '-n', '-c', script], check=True)
    words = words_of(script, HOME='/x')
    cut = words.index('--')
    assert words[:3] == ['python', '-m', 'launch.supervise']
    assert words[3:cut] == [f'--processes={machines.hardware(text).processes}']
    assert words[cut + 1 :] == ['python', '-m', 'acereason_jax.train', *FLAGS]


def test_sweeps():
  one, two = sweeps.points(['optim.learning_rate=1e-6,2e-6'], False)
  assert one.overrides == ('--config.optim.learning_rate=1e-6',)
  assert two.label == '1-learning_rate=2e-6'
  grid = sweeps.points(['seed=0,1', '--config.steps=2,3,4'], False)
  assert [p.overrides for p in grid] == [
    (f'--config.seed={a}', f'--config.steps={b}')
    for a in (0, 1)
    for b in (2, 3, 4)
  ]
  assert len({p.label for p in grid}) == 6
  pairs = sweeps.points(['seed=0,1', 'steps=2,3'], True)
  assert [p.overrides[1] for p in pairs] == [
    '--config.steps=2',
    '--config.steps=3',
  ]
  # Commas inside brackets and quotes are part of a value.
  whole = "optim.transform={'fn': 'a,b', 'x': (1,2)},{'fn': 'c'}"
  assert [p.overrides[0] for p in sweeps.points([whole], False)] == [
    "--config.optim.transform={'fn': 'a,b', 'x': (1,2)}",
    "--config.optim.transform={'fn': 'c'}",
  ]
  assert sweeps.points([], False) == [sweeps.Point('', ())]
  for point in sweeps.points(["x={'a/../b': 1},2"], False):
    assert re.fullmatch(r'[A-Za-z0-9._=-]+', point.label)
    assert '/' not in point.label


@pytest.mark.parametrize(
  'texts',
  [
    *(['seed='], ['seed'], ['=1'], ['seed=1,'], ['seed=,'], ['a b=1'], ['']),
    *(['seed=1', 'seed=2'], ['seed=' + ','.join('1' * 1001)]),
  ],
)
def test_a_sweep_that_is_none(texts):
  with pytest.raises(ValueError, match=r'^--sweep'):
    sweeps.points(texts, False)


def launched(*arguments, cwd=ROOT, **variables):
  return subprocess.run(
    [sys.executable, str(SCRIPT), *arguments],
    capture_output=True,
    text=True,
    cwd=cwd,
    env=os.environ | variables,
  )


def one_line(done, status=1):
  """The line of a command that was refused."""
  assert done.returncode == status, done.stderr
  assert done.stdout == ''
  [line] = done.stderr.splitlines()
  assert line.startswith('error: ')
  return line


SEVEN = '--config=configs/acereason_7b.py'


def test_a_dry_run(tmp_path):
  done = launched(
    SEVEN,
    *('--hardware=v5p:4x4x4', '--backend=gke', '--dry_run'),
    *(f'--manifest_dir={tmp_path}', '--workdir=gs://bucket/run'),
  )
  assert done.returncode == 0, done.stderr
  for text in ('16 hosts, 64 devices', 'fsdp=64', 'GB a device', 'hours'):
    assert text in done.stdout
  assert 'not measured' in done.stdout
  [file] = tmp_path.iterdir()
  assert str(file) in done.stdout and file.suffix == '.yaml'
  document = yaml.safe_load(file.read_text())
  check_jobset(document)
  assert '--workdir=gs://bucket/run' in json.dumps(document)


@pytest.mark.parametrize('more', [(), ('--dry_run',), ('--noplan',)])
def test_what_does_not_fit_is_not_started(more, tmp_path, monkeypatch, capsys):
  """A dry run shows all of the plan; --noplan starts it all the same."""
  plan = planned.Plan(('head', 'more'), False, None, ('math_8k',))
  monkeypatch.setattr(planned, 'one', lambda *given: plan)
  monkeypatch.chdir(ROOT)
  (tmp_path / 'kubectl').write_text('#!/bin/sh\ntouch "$3".started\n')
  (tmp_path / 'kubectl').chmod(stat.S_IRWXU)
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  words = (
    *('x', SEVEN, '--hardware=v5e:2x2', '--backend=gke', '--image=a'),
    *('--workdir=gs://b/r', f'--manifest_dir={tmp_path / "manifests"}', *more),
  )
  if '--noplan' in more:
    assert xm_launch.main(words) == 0
    names = {p.name for p in (tmp_path / 'manifests').iterdir()}
    assert names == {'acereason-7b.yaml', 'acereason-7b.yaml.started'}
    return
  with pytest.raises(SystemExit) as e:
    xm_launch.main(words)
  assert e.value.code.startswith('error: --hardware=v5e:2x2: math_8k: does not')
  assert '--noplan' in e.value.code
  assert ('head' in capsys.readouterr().out) == ('--dry_run' in more)
  assert not (tmp_path / 'manifests').exists()


def test_a_model_of_unknown_size_is_not_planned(tmp_path):
  """The launcher says why, and goes on."""
  done = launched(
    SEVEN,
    *('--hardware=h100:8', '--backend=slurm', '--dry_run'),
    *(f'--manifest_dir={tmp_path}', '--', f'--config.model={tmp_path}/none'),
  )
  assert done.returncode == 0, done.stderr
  [line] = re.findall('(?m)^plan      (.*)$', done.stdout)
  assert line.startswith('not made: ') and f'{tmp_path}/none' in line
  assert len(list(tmp_path.iterdir())) == 1


def test_a_plan_that_ends_badly(tmp_path, monkeypatch):
  """Its reason is its last line; terminal sequences in it are escaped."""
  for code, reason in {
    'import sys; sys.exit("one\\nerror: two\\x1b[31m")': 'two\\x1b[31m',
    'import sys; sys.exit(3)': 'status 3',
    'pass': 'status 0',
  }.items():
    monkeypatch.setattr(planned, 'COMMAND', (sys.executable, '-c', code))
    assert planned.one('x.py', [], 'h100:8') == planned.Plan(reason=reason)


@pytest.mark.parametrize(
  ('text', 'given', 'said'),
  [
    ('h100:8*4', [], 'fsdp=32 crosses 4 nodes; -- --config.mesh.data=4'),
    ('v5p:4x4x8*2', [], 'fsdp=256 crosses 2 slices; -- --config.mesh.data=2'),
    (
      'h100:8*4',
      ['--config.mesh.data=-1', '--config.mesh.fsdp=32'],
      '; -- --config.mesh.data=4 --config.mesh.fsdp=8',
    ),
    ('h100:8*4', ['--config.mesh.data=4'], ''),
    ('h100:8', [], ''),
    ('v5p:4x4x8', [], ''),
    ('cpu:2', [], ''),
  ],
)
def test_a_mesh_that_crosses_nodes(text, given, said):
  """What the line says to give is a mesh that is not told of."""
  path, hardware = (
    str(ROOT / 'configs/acereason_7b.py'),
    machines.hardware(text),
  )
  about = xm_launch.check(path, given, hardware)
  assert bool(about.crossing) == bool(about.within) == bool(said)
  if said:
    assert about.crossing.startswith('mesh      ') and said in about.crossing
    assert f'-- {" ".join(about.within)} keeps' in about.crossing
    again = xm_launch.check(path, [*given, *about.within], hardware)
    assert not again.crossing and not again.within


@pytest.mark.parametrize(
  ('other', 'said'),
  [
    (planned.Plan(('x',), True, 30.2), ': 30 hours instead of 40'),
    (planned.Plan(('x',), True, None), 'keeps it within one'),
    (planned.Plan(reason='out of time'), 'keeps it within one'),
    # A quarter of the devices has no room for it.
    (planned.Plan(('x',), False, 30.2), ''),
  ],
)
def test_a_mesh_that_crosses_nodes_next_to_one_that_does_not(
  other, said, monkeypatch
):
  asked = []

  def one(config, given, hardware):
    asked.append(tuple(given))
    return other if '--config.mesh.data=4' in given else own

  own = planned.Plan(('head', 'more'), True, 40.4)
  monkeypatch.setattr(planned, 'one', one)
  values = xm_launch.FLAGS.values.flag_values_dict()
  seven = str(ROOT / 'configs' / 'acereason_7b.py')
  # The flags may be those of the command line before.
  given = dict(config=seven, workdir='w', hardware='h100:8*4', plan=True)
  args = types.SimpleNamespace(**values | given)
  [made], about = xm_launch.jobs(args, ['--config.steps=9', '--verbosity=1'])
  lines = xm_launch.plan(args, made, about)
  assert sorted(asked) == [
    ('--config.steps=9',),
    ('--config.steps=9', '--config.mesh.data=4'),
  ]
  told = [line for line in lines if 'crosses' in line]
  assert [line.endswith(said) for line in told] == [True] * bool(said)
  assert lines[-2:] == ['plan      head', '          more']


def test_a_dry_run_says_what_a_start_would(tmp_path):
  """In the words of the error that the start ends with."""
  (tmp_path / 'kubectl').write_text('#!/bin/sh\nexit 1\n')
  (tmp_path / 'kubectl').chmod(stat.S_IRWXU)
  path = f'{tmp_path}:{os.environ["PATH"]}'
  given = (
    *(SEVEN, '--hardware=v5p:4x4x4', '--backend=gke', '--noplan'),
    f'--manifest_dir={tmp_path / "manifests"}',
  )
  done = launched(*given, '--dry_run')
  assert done.returncode == 0, done.stderr
  image, workdir = re.findall('(?m)^not ready (.*)$', done.stdout)
  assert one_line(launched(*given, PATH=path)) == f'error: {image}'
  done = launched(*given, '--image=a', PATH=path)
  assert one_line(done) == f'error: {workdir}'
  done = launched(*given, '--image=a', '--workdir=gs://b/r', '--dry_run')
  assert 'not ready' not in done.stdout and done.returncode == 0


def test_a_dry_run_loads_no_jax_and_no_xmanager(tmp_path):
  code = (
    'import atexit, runpy, sys\n'
    'atexit.register(lambda: print(*sys.modules))\n'
    'sys.argv.pop(0)\n'
    'runpy.run_path(sys.argv[0], run_name="__main__")'
  )
  done = subprocess.run(
    [
      *(sys.executable, '-c', code, str(SCRIPT), SEVEN),
      *('--hardware=h100:8*4', '--backend=slurm', '--dry_run', '--noplan'),
      *(f'--manifest_dir={tmp_path}', '--sweep=seed=0,1'),
    ],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == 0, done.stderr
  loaded = {m.split('.')[0] for m in done.stdout.splitlines()[-1].split()}
  assert 'acereason_jax' in loaded
  heavy = {'jax', 'jaxlib', 'flax', 'optax', 'transformers', 'xmanager'}
  assert not loaded & heavy
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'acereason-7b-0.sbatch',
    'acereason-7b-1.sbatch',
  ]


def test_a_run_of_a_sweep_has_its_own_folder(tmp_path):
  done = launched(
    '--config=configs/quickstart.py',
    *('--hardware=cpu:2', '--dry_run', f'--manifest_dir={tmp_path}'),
    *('--sweep=optim.learning_rate=1e-6,2e-6', '--sweep', '--config.seed=0,1'),
    *('--workdir=runs/sweep', '--', '--config.steps=3'),
  )
  assert done.returncode == 0, done.stderr
  texts = [p.read_text() for p in sorted(tmp_path.iterdir())]
  folders = [re.search(r'--workdir=(\S+)', text)[1] for text in texts]
  assert len(set(folders)) == 4
  assert folders[1] == 'runs/sweep/1-learning_rate=1e-6-seed=1'
  assert all('--config.steps=3' in text for text in texts)


@pytest.mark.parametrize(
  ('given', 'folder'),
  [
    *(('gs://b/r/', 'gs://b/r'), ('runs/a//', 'runs/a'), ('/', '/')),
    ('gs://b/r', 'gs://b/r'),
  ],
)
def test_a_slash_after_the_workdir(given, folder):
  values = xm_launch.FLAGS.values.flag_values_dict()
  quick = str(ROOT / 'configs' / 'quickstart.py')
  args = types.SimpleNamespace(**values | dict(config=quick, workdir=given))
  [made], _ = xm_launch.jobs(args, [])
  assert made.flags[-1] == f'--workdir={folder}'


@pytest.mark.parametrize(
  ('codes', 'status', 'last'),
  [
    ((0, 3), 3, '1 of 2 runs failed: b'),
    ((1, 2), 1, '2 of 2 runs failed: a, b'),
    # The second is stopped by a signal; the third never begins.
    ((1, 75, 1), 75, '1 of 3 runs failed: a'),
    ((0, 0), 0, 'run b: x'),
    ((1,), 1, None),
  ],
)
def test_the_last_line_of_a_sweep(codes, status, last, monkeypatch, capsys):
  ends = dict(zip('abc', codes))
  monkeypatch.setattr(
    local,
    'command',
    lambda job: [sys.executable, '-c', f'raise SystemExit({ends[job.name]})'],
  )
  one = job('cpu:1', flags=('x',))
  assert local.run([one._replace(name=name) for name in ends]) == status
  lines = capsys.readouterr().out.splitlines()
  assert (lines[-1] if lines else None) == last


BAD = {
  'the kinds are cpu': ('--hardware=v9:2x2',),
  '--hardware: missing; --backend=gke': ('--backend=gke', '--dry_run'),
  '--hardware: missing; --backend=slurm': ('--backend=slurm', '--dry_run'),
  '--hardware: missing; --backend=sky': ('--backend=sky',),
  'has no topology': ('--hardware=v5p:4x4x5',),
  'does not cover 64 devices': (
    *('--hardware=v5p:4x4x4', '--backend=gke', '--', '--config.mesh.data=3'),
  ),
  'Kubernetes expects': (
    *('--hardware=v5p:4x4x4', '--backend=gke', '--name=A_b', '--dry_run'),
  ),
  'no kubectl on PATH': ('--hardware=v5p:4x4x4', '--backend=gke'),
  'no sbatch on PATH': ('--hardware=h100:8*4', '--backend=slurm'),
  'no sky on PATH': ('--hardware=h100:8*4', '--backend=sky'),
  '--sweep=seed=: expected': ('--sweep=seed=',),
  'no such field': ('--sweep=optim.speed=1,2',),
  'is called objective.loss now': ('--', "--config.loss={'fn': 'a:b'}"),
  'give at least 1': ('--sweep=rollout.prompts=8,0',),
  'after -- expected': ('--', '--workdir=elsewhere'),
  '4 hosts; give': ('--hardware=h100:8*4',),
  '--config=b.py: after -- expected': ('--', '--config=b.py'),
  '--queue=a b: expected letters': ('--queue=a\nb',),
  '--name=../x: expected': ('--name=../x',),
  'expected no /': ('--name=a/b',),
  'not a value': ('--secret=HF_TOKEN=hf_abc',),
  'expected the name of': ('--secret=hf_abcDEF0123456789',),
  '--secret: is for gke and sky; --backend=local': ('--secret=HF_TOKEN',),
  '--secret: is for gke and sky; --backend=slurm': (
    *('--secret=HF_TOKEN', '--backend=slurm', '--hardware=h100:8'),
    '--dry_run',
  ),
  'leave --image out': ('--image=a',),
  'holds no run': ('--status=nowhere',),
  '(put it after --: -- --config.steps=20)': ('--config.steps=20',),
  '--help lists the flags': ('--hardwear=cpu:2',),
  'No such file': ('--config=configs/none.py',),
}


# With the status of a command line that cannot be read.
USAGE = (
  'no such field',
  '(put it after --: -- --config.steps=20)',
  'is called objective.loss now',
  '--help lists the flags',
  'No such file',
)


@pytest.mark.parametrize('said', BAD)
def test_bad_input_is_one_line_and_starts_nothing(
  said, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(ROOT)
  # Python alone: no tools of clusters.
  monkeypatch.setenv('PATH', os.path.dirname(sys.executable))
  monkeypatch.setattr(subprocess, 'run', None)
  monkeypatch.setattr(subprocess, 'Popen', None)
  folder = f'--manifest_dir={tmp_path / "manifests"}'
  first = ('xm_launch.py', SEVEN, folder, '--workdir=gs://b/r')
  with pytest.raises(SystemExit) as e:
    xm_launch.main([*first, *BAD[said]])
  out, err = capsys.readouterr()
  # Python prints a message that is a text, and ends with status 1.
  line = err if said in USAGE else e.value.code
  assert e.value.code == 2 if said in USAGE else isinstance(line, str)
  assert line.startswith('error: ') and len(line.splitlines()) == 1
  assert said in line and 'hf_abc' not in line and out == ''
  assert list(tmp_path.iterdir()) == []


def test_what_a_cluster_has_not(tmp_path):
  """A folder of this machine, and a config that no image holds."""
  for tool in ('kubectl', 'sky'):
    (tmp_path / tool).write_text('#!/bin/sh\necho started\n')
    (tmp_path / tool).chmod(stat.S_IRWXU)
  path = f'{tmp_path}:{os.environ["PATH"]}'
  several = ('--hardware=v5p:4x4x4', '--backend=gke', '--image=a', '--noplan')
  manifests = f'--manifest_dir={tmp_path / "manifests"}'
  done = launched(SEVEN, *several, manifests, PATH=path)
  assert 'give gs://BUCKET/FOLDER' in one_line(done)
  done = launched(SEVEN, '--backend=gke', '--hardware=v5p:2x2x1', PATH=path)
  assert '--image: missing' in one_line(done)
  (tmp_path / 'mine.py').write_text(
    'from acereason_jax.config import base\n'
    'def get_config():\n  c = base.get_config()\n  c.model = "a"\n  return c\n'
  )
  done = launched(f'--config={tmp_path / "mine.py"}', *several, PATH=path)
  assert 'put it into configs/' in one_line(done)
  assert not (tmp_path / 'manifests').exists()
  # From another folder the image's path is the same.
  done = launched(
    f'--config={ROOT / "configs" / "acereason_7b.py"}:math_only',
    *(*several, manifests, '--workdir=gs://b/r'),
    cwd=tmp_path,
    PATH=path,
  )
  assert done.returncode == 0, done.stderr
  assert 'started' in done.stdout
  [file] = (tmp_path / 'manifests').iterdir()
  assert '--config=configs/acereason_7b.py:math_only' in file.read_text()
  assert file.name == 'acereason-7b-math-only.yaml'


def test_a_cluster_that_refuses_is_one_more_line(tmp_path):
  (tmp_path / 'sbatch').write_text('#!/bin/sh\necho no partition >&2; exit 3\n')
  (tmp_path / 'sbatch').chmod(stat.S_IRWXU)
  done = launched(
    *(SEVEN, '--hardware=h100:8*4', '--backend=slurm', '--noplan'),
    f'--manifest_dir={tmp_path}',
    PATH=f'{tmp_path}:{os.environ["PATH"]}',
  )
  assert done.returncode == 1
  theirs, ours = done.stderr.splitlines()
  assert theirs == 'no partition'
  assert 'ended with status 3' in ours and ours.startswith('error: sbatch')


def test_status_of_runs(tmp_path):
  def run(name, lines, done=False):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'metrics.jsonl').write_text(''.join(lines))
    if done:
      (tmp_path / name / 'summary.json').write_text('{}')

  step = json.dumps({'step': 9, 'reward': 0.25, 'heldout/main': 0.5}) + '\n'
  later = json.dumps({'step': 10, 'reward': 0.75, 'entropy': None}) + '\n'
  run('0-lr=1', [step, later], done=True)
  run('10-lr=3', [step, '{"step": 11, "rew'])
  run('2-lr=2', ['x' * 100_000 + '\n', later])
  run('3-strange', ['{"step": 1e999, "reward": "a", "\\u001b[31m": 1}\n'])
  run('4-begun', [])
  (tmp_path / 'not-a-run').mkdir()
  head, *rows = status.table(str(tmp_path)).splitlines()
  assert head.split()[:4] == ['run', 'state', 'step', 'reward']
  assert head.split()[-1] == 'heldout/main'
  cells = [row.split() for row in rows]
  assert [row[0] for row in cells] == [
    *('0-lr=1', '2-lr=2', '3-strange', '4-begun', '10-lr=3'),
  ]
  assert cells[0][1:4] == ['done', '10', '0.750'] and cells[0][-1] == '0.500'
  assert cells[4][1:4] == ['going?', '9', '0.250']
  assert cells[3][1:3] == ['begun?', '-']
  assert cells[2][2:4] == ['-', '-']
  assert '\x1b' not in '\n'.join(rows)


_HOLDS = """
import sys, time
from acereason_jax import locks
with locks.locked(sys.argv[1], print):
  print('held', flush=True)
  time.sleep(600)
"""


def test_status_tells_a_run_that_goes_on_from_one_that_died(tmp_path):
  """By the process that holds its lock, whose kill leaves the same files."""
  run = tmp_path / 'x'
  run.mkdir()
  start = dict(step=0, config='tiny', phase='sample', ended='')
  state = lambda: status.read(str(run))['state']

  def begins(**more):
    (run / 'starts.jsonl').write_text(json.dumps(start | more) + '\n')

  begins()
  # It has not written its lock yet.
  assert state() == 'begun?'
  holder = subprocess.Popen(
    [sys.executable, '-c', _HOLDS, run / '0.lock'],
    stdout=subprocess.PIPE,
    text=True,
  )
  with holder:
    try:
      assert holder.stdout.readline() == 'held\n'
      assert state() == 'begun'
      (run / 'metrics.jsonl').write_text('{"step": 3}\n')
      assert state() == 'going'
    finally:
      holder.kill()
  assert state() == 'died'
  for ended, want in dict(done='done', asked='stopped', told='failed').items():
    begins(ended=ended)
    assert state() == want
  # What no run wrote, and more than is read.
  for content in ('[]\n{"step": "x"}\n', ' ' * (2 << 20)):
    (run / 'starts.jsonl').write_text(content)
    assert state() == 'going?'
  begins()
  (run / 'summary.json').write_text('{}')
  assert state() == 'done'


def test_status_of_runs_in_a_bucket(tmp_path):
  """A command of its own: tensorstore looks once where its server is."""
  with object_store.Store(tmp_path) as store:
    store.make_bucket('bucket')
    for name in ('1-b', '0-a'):
      urllib.request.urlopen(
        f'{store.url}/upload/storage/v1/b/bucket/o?uploadType=media'
        f'&name=sweep/{name}/metrics.jsonl',
        data=b'{"step": 3, "reward": 0.5}\n',
      ).close()
    done = launched('--status=gs://bucket/sweep', **store.environment)
  assert done.returncode == 0, done.stderr
  assert [row.split()[:4] for row in done.stdout.splitlines()[1:]] == [
    ['0-a', 'going?', '3', '0.500'],
    ['1-b', 'going?', '3', '0.500'],
  ]


def test_the_flags_of_xmanager(monkeypatch):
  """They are in the set of the whole program, which xmanager parses."""
  assert {*xm_launch.FLAGS.values} - {'help', 'h'} <= {*xm_launch.flags.FLAGS}
