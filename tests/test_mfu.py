"""The MFU of real runs, recounted from the rollouts that they trained on."""

import json

import jax
import pytest
import tiny
from runs import Command
from test_waste import figures

from acereason_jax import machines, train
from acereason_jax.data import archive
from acereason_jax.reporting import fit, read

PEAK = 1e11
# The weights of a layer by hand: q and o, k and v, three of the MLP, two norms.
LAYER = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 2 * 32
# The last norm, and the embedding, which is the head too.
WEIGHTS = 2 * LAYER + 32 + tiny.LLAMA['vocab_size'] * 32
# Rank x (in + out) of each matrix, in both layers.
ADAPTERS = 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48))
LORA = '--config.lora.rank=4'
# A user's mark, two numbers of two digits, their signs and the assistant's.
PROMPT = 8


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('tiny')
  tiny.write(path)
  tiny.write_questions(path / 'train.jsonl', 20, first=10)
  return path


@pytest.fixture(scope='module', params=['dots', 'block', 'adapters'])
def run(request, folder, compiled):
  """(folder of a run, how many of its weights are trained)."""
  name = request.param
  workdir = folder / name
  flags = [LORA] if name == 'adapters' else [f'--config.remat={name}']
  Command(
    folder,
    compiled,
    workdir,
    *flags,
    '--config.steps=2',
    script=PEAK,
    by='known_peak',
  ).ends(0)
  return workdir, ADAPTERS if name == 'adapters' else WEIGHTS


def metrics_of(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def flops_of(workdir, metrics, trained):
  """By hand; what `remat` computes again does not count."""
  name = archive.Place(metrics['step'], archive.TRAIN).name
  rows = archive.read_rows((workdir / archive.FOLDER / name).read_bytes())
  lengths = [row['length'] for row in rows.to_pylist() if row['trained']]
  assert lengths and metrics['packed_response_tokens'] == sum(lengths)
  # A response begins with the prompt's last token. The others are there once
  # for all rollouts of a prompt in a row.
  before = PROMPT - 1
  prompts, rest = divmod(metrics['packed_prompt_tokens'], before)
  assert not rest and 0 < prompts <= len(lengths)
  seen = prompts * sum(range(1, PROMPT))
  seen += sum(before + i for n in lengths for i in range(1, n + 1))
  tokens = prompts * before + sum(lengths)
  # 2 layers of 4 heads of 8: scores and values, forward and twice backward.
  attention = 3 * 2 * 4 * (2 * 8 + 2 * 8) * seen
  return (4 * WEIGHTS + 2 * trained) * tokens + attention


def test_the_mfu_of_a_step_by_hand(run):
  workdir, trained = run
  found = metrics_of(workdir)
  assert len(found) == 2
  for metrics in found:
    flops = metrics['mfu'] * metrics['seconds_update'] * PEAK
    assert flops == pytest.approx(flops_of(workdir, metrics, trained))


def test_the_report_shows_it_beside_updates_and_as_a_curve(run):
  workdir, _ = run
  got = read.report(str(workdir), ledger=None, samples=fit.NO_SAMPLES)
  (series,) = (s for s in got.curves[0].series if s.name == 'mfu')
  assert series.values[1:] == [m['mfu'] for m in metrics_of(workdir)]
  least = sum(m['mfu'] * m['seconds_update'] for m in metrics_of(workdir))
  # The clock's seconds do not hold the compiles that are in those of steps.
  lines = (workdir / 'clock.jsonl').read_text().splitlines()
  took = sum(json.loads(line)['seconds'].get('update', 0) for line in lines)
  assert figures(got.waste.root) == dict(update=f'MFU {least / took:.1%}')


def test_devices_that_are_not_known_have_no_peak(folder, monkeypatch):
  config = tiny.config(folder)
  assert train.build(config).peak == 0.0
  cpu = machines.KINDS['cpu']._replace(flops=PEAK)
  monkeypatch.setitem(machines.KINDS, 'cpu', cpu)
  assert train.build(config).peak == len(jax.devices()) * PEAK
  monkeypatch.setitem(machines.KINDS, 'cpu', cpu._replace(model='another'))
  assert train.build(config).peak == 0.0
