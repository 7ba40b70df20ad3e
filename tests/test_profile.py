"""Traces of steps, memory of devices, and 8-bit rollouts in whole runs."""

import pathlib
import types

import jax
import jax.numpy as jnp
import pytest
from runs import Command, assert_same_run, metrics_of

from acereason_jax.run import metrics, profile

GB = 10**9


def traces(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(folder.glob('plugins/profile/*/*.xplane.pb'))


def traced_steps(file: pathlib.Path) -> list[int]:
  """Numbers of the steps in a trace, in order."""
  found = []
  for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
    for line in plane.lines:
      for event in line.events:
        stats = dict(event.stats)
        if event.name == 'step' and 'step_num' in stats:
          found.append((event.start_ns, int(stats['step_num'])))
  return [number for _, number in sorted(found)]


@pytest.fixture
def said(monkeypatch):
  lines = []
  monkeypatch.setattr(metrics, 'say', lambda *args: lines.append(args[0]))
  return lines


@pytest.mark.parametrize(
  ('text', 'want'), [('3', (3, 3)), ('3:5', (3, 5)), ('7:7', (7, 7))]
)
def test_steps_of_the_flag(text, want):
  assert profile.Steps.parse(text) == want


@pytest.mark.parametrize(
  'text', ['', '0', '0:3', '5:3', '-1', '3:', ':3', '1:2:3', 'x', '1.5', '٣']
)
def test_other_steps_are_one_line(text):
  with pytest.raises(ValueError, match=r"^'.*': expected a step, or first:l"):
    profile.Steps.parse(text)


@jax.jit
def scoped(x):
  with jax.named_scope('our_scope'):
    return jnp.sin(x) @ x


def test_a_trace_holds_its_steps_and_our_scopes(tmp_path, said):
  with profile.Tracer(profile.Steps(2, 3), tmp_path) as tracer:
    for number in range(1, 6):
      with tracer.step(number):
        scoped(jnp.ones((8, 8))).block_until_ready()
  (file,) = traces(tmp_path / 'profile')
  assert traced_steps(file) == [2, 3]
  assert b'our_scope' in file.read_bytes()
  (line,) = said
  assert (
    line == f'{tmp_path / "profile"}: a trace; tensorboard --logdir opens it'
  )


def test_a_stop_in_the_middle_leaves_the_trace_so_far(tmp_path, said):
  with (
    pytest.raises(KeyboardInterrupt),
    profile.Tracer(profile.Steps(2, 9), tmp_path) as tracer,
  ):
    for number in range(3, 6):
      with tracer.step(number):
        if number == 5:
          raise KeyboardInterrupt
  (file,) = traces(tmp_path / 'profile')
  # A run that resumes within the steps traces the rest of them.
  assert traced_steps(file) == [3, 4, 5]
  # The profiler is free again.
  again = profile.Tracer(profile.Steps(1, 1), tmp_path / 'next')
  with again, again.step(1):
    pass
  assert traces(tmp_path / 'next' / 'profile')


def test_steps_that_are_not_taken_are_said(tmp_path, said):
  for steps in (None, profile.Steps(8, 9)):
    with profile.Tracer(steps, tmp_path) as tracer, tracer.step(1):
      pass
  assert said == ['--profile=8:9: no such step was taken: nothing is traced']
  assert not list(tmp_path.iterdir())


def test_a_trace_that_cannot_be_written_does_not_end_the_run(tmp_path, said):
  (tmp_path / 'profile').write_text('a file')
  tracer = profile.Tracer(profile.Steps(1, 1), tmp_path)
  with tracer, tracer.step(1):
    pass
  (line,) = said
  assert line.startswith('WARNING: --profile: the trace is not written: ')


def device(**stats):
  return types.SimpleNamespace(memory_stats=lambda: stats or None)


def test_the_memory_of_the_fullest_device():
  devices = [
    device(bytes_in_use=3 * GB, peak_bytes_in_use=5 * GB, bytes_limit=9 * GB),
    device(bytes_in_use=4 * GB, peak_bytes_in_use=4 * GB),
  ]
  assert metrics.hbm(devices) == dict(hbm_gb=4.0, hbm_peak_gb=5.0)


def test_what_devices_do_not_say_is_no_metric():
  assert metrics.hbm([device(), device(bytes_in_use=GB)]) == dict(hbm_gb=1.0)
  assert metrics.hbm([device()]) == {}
  assert metrics.hbm(jax.devices()) == {}


@pytest.mark.usefixtures('compiled_once')
def test_an_int8_run_resumes_to_the_same_end_traced_or_not(folder, compiled):
  """Two steps and two more, of which two are traced, equal four at once."""
  weights = '--config.engine.weights=int8'
  go = lambda name, *flags: Command(
    folder, compiled, folder / name, weights, *flags
  ).ends(0)
  said = go('whole', '--config.steps=4')
  assert 'config.engine.weights=int8: rollouts are drawn from another' in said
  assert 'losses:truncated_importance' in said
  go('parts', '--config.steps=2')
  said = go('parts', '--config.steps=4', '--profile=3:4')
  # A run looks at held-out questions at its end, here after step 2 too.
  assert_same_run(folder / 'whole', folder / 'parts', 4, ('heldout',))
  (file,) = traces(folder / 'parts' / 'profile')
  assert traced_steps(file) == [3, 4] and 'a trace; tensorboard' in said
  names = file.read_bytes()
  for name in (b'jit_decode', b'jit_add', b'attention', b'logp'):
    assert name in names
  # Another policy than the trainer's, and within the limit of its dtype.
  for values in metrics_of(folder / 'whole'):
    assert 1e-4 < values['mismatch'] < 0.2
    assert 'hbm_gb' not in values
