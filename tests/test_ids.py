"""Which process this is, against what jax finds where it looks too."""

import pytest
from jax._src.clusters import cloud_tpu_cluster, slurm_cluster

from acereason_jax.hosts import ids

NOTHING = ids.Flags(None, None, None)
AUTO = ids.Flags('auto', None, None)
SLURM = dict(
  SLURM_JOB_ID='1234567',
  SLURM_STEP_ID='2',
  SLURM_STEP_NODELIST='node[003-006],other',
  SLURM_STEP_NUM_NODES='5',
  SLURM_NTASKS='5',
  SLURM_PROCID='3',
  SLURM_LOCALID='0',
)
TPU = dict(TPU_WORKER_HOSTNAMES='t-0.t,t-1.t,t-2.t,t-3.t', TPU_WORKER_ID='2')
SLICES = TPU | dict(
  MEGASCALE_NUM_SLICES='4',
  MEGASCALE_SLICE_ID='3',
  MEGASCALE_COORDINATOR_ADDRESS='leader.t:8081',
)


def test_flags_say_all():
  given = ids.Flags('h:9', 4, 3)
  assert ids.find(given, SLURM) == ids.Ids('h:9', 4, 3)


def test_no_flag_is_one_process():
  assert ids.find(NOTHING, SLURM | TPU) == ids.Ids()


@pytest.mark.parametrize(
  'environment, expected',
  [
    (
      dict(
        JAX_COORDINATOR_ADDRESS='h:9', JAX_NUM_PROCESSES='4', JAX_PROCESS_ID='3'
      ),
      ids.Ids('h:9', 4, 3),
    ),
    (
      dict(
        JAX_COORDINATOR_ADDRESS='h',
        JAX_COORDINATOR_PORT='77',
        JAX_PROCESS_COUNT='8',
        JOB_INDEX='1',
        PROCESSES_IN_JOB='4',
        JOB_COMPLETION_INDEX='2',
      ),
      ids.Ids('h:77', 8, 6),
    ),
    (
      dict(
        JOBSET_NAME='set',
        REPLICATED_JOB_NAME='job',
        JAX_NUM_PROCESSES='2',
        JOB_COMPLETION_INDEX='1',
      ),
      ids.Ids('set-job-0-0.set:8482', 2, 1),
    ),
    (
      dict(
        SKYPILOT_NODE_IPS='10.0.0.1\n10.0.0.2',
        SKYPILOT_NUM_NODES='2',
        SKYPILOT_NODE_RANK='1',
      ),
      ids.Ids('10.0.0.1:8482', 2, 1),
    ),
    (
      dict(
        SKYPILOT_NODE_IPS='fd00::1 fd00::2',
        SKYPILOT_NUM_NODES='2',
        SKYPILOT_NODE_RANK='0',
      ),
      ids.Ids('[fd00::1]:8482', 2, 0),
    ),
    (SLURM, ids.Ids('node003:62578', 5, 3)),
    # Several tasks a host: each has one device.
    (
      SLURM | dict(SLURM_STEP_NUM_NODES='2', SLURM_LOCALID='1'),
      ids.Ids('node003:62578', 5, 3, (1,)),
    ),
    (TPU, ids.Ids('t-0.t:8482', 4, 2)),
    (SLICES, ids.Ids('leader.t:8482', 16, 14)),
  ],
)
def test_environments(environment, expected):
  assert ids.find(AUTO, environment) == expected


def test_a_flag_comes_before_the_environment():
  given = ids.Flags('h:9', None, None)
  assert ids.find(given, SLURM) == ids.Ids('h:9', 5, 3)
  given = ids.Flags('auto', 2, 1)
  assert ids.find(given, SLURM)[1:3] == (2, 1)


def test_what_only_jax_finds():
  found = ids.Ids('h:9', 2, 1)
  assert ids.find(AUTO, {}, lambda: found) == found


@pytest.mark.parametrize('environment', [TPU, SLICES])
def test_tpus_are_counted_as_jax_counts_them(monkeypatch, environment):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setenv(
    'MEGASCALE_NUM_SLICES', environment.get('MEGASCALE_NUM_SLICES', '1')
  )
  monkeypatch.setenv(
    'MEGASCALE_SLICE_ID', environment.get('MEGASCALE_SLICE_ID', '0')
  )
  cluster = cloud_tpu_cluster.GkeTpuCluster
  monkeypatch.setattr(
    cloud_tpu_cluster,
    'get_tpu_env_value_from_metadata',
    lambda key: environment.get(key),
  )
  monkeypatch.setattr(cluster, 'wait_for_coordinator', lambda *a: None)
  found = ids.find(AUTO, environment)
  assert found.processes == cluster.get_process_count()
  assert found.process == cluster.get_process_id()
  assert found.coordinator == cluster.get_coordinator_address(1, None)


@pytest.mark.parametrize(
  'hosts',
  ['node001', 'node001,host2', 'node[001-0015],host2', 'n[001,007-015],host2'],
)
def test_the_first_host_of_slurm_is_the_one_that_jax_takes(monkeypatch, hosts):
  monkeypatch.setenv('SLURM_STEP_NODELIST', hosts)
  monkeypatch.setenv('SLURM_JOB_ID', '1')
  address = slurm_cluster.SlurmCluster.get_coordinator_address(1, '5')
  assert f'{ids.first_host(hosts)}:5' == address


def test_a_list_of_two_ranges():
  assert ids.first_host('rack[2-3]n[07,09-11]x,rack4') == 'rack2n07x'


def test_jobs_that_share_a_host_share_no_port():
  ports = set()
  for job in range(50, 60):
    found = ids.find(AUTO, SLURM | dict(SLURM_JOB_ID=str(job)))
    port = int(found.coordinator.rpartition(':')[2])
    ports |= {port, port + 1}
  assert len(ports) == 20 and max(ports) < 65536


@pytest.mark.parametrize(
  'given, environment, message',
  [
    (AUTO, {}, '--coordinator=auto: nothing here says which process'),
    (('h:9', 2, None), {}, '--coordinator=h:9: nothing here says which'),
    (('h:9', 2, 2), {}, '--process=2: expected 0 to 1, because --processes=2'),
    (('h:9', 2, -1), {}, '--process=-1: expected 0 to 1'),
    (('h:9', 0, 0), {}, '--processes=0: expected at least 1'),
    ((None, 2, 0), {}, '--processes=2 --process=0 without --coordinator'),
    ((None, None, 1), {}, '--processes=1 --process=1 without --coordinator'),
    (('h', 2, 0), {}, "--coordinator='h': expected host:port of process 0"),
    (('http://h:9', 2, 0), {}, "--coordinator='http://h:9': expected host:p"),
    (('h:99999', 2, 0), {}, "--coordinator='h:99999': '99999' is no port"),
    (AUTO, SLURM | dict(SLURM_PROCID='x'), "SLURM_PROCID='x': expected a whol"),
    (AUTO, SLURM | dict(SLURM_PROCID='5'), '--process=5: expected 0 to 4'),
    (
      AUTO,
      dict(
        JAX_COORDINATOR_ADDRESS='h',
        JAX_NUM_PROCESSES='4',
        JOB_INDEX='1',
        JOB_COMPLETION_INDEX='0',
      ),
      'JOB_INDEX=1 without PROCESSES_IN_JOB: set it to the pods of a job',
    ),
  ],
)
def test_ids_that_cannot_be(given, environment, message):
  with pytest.raises(ValueError) as e:
    ids.find(ids.Flags(*given), environment)
  assert str(e.value).startswith(message) and '\n' not in str(e.value)
