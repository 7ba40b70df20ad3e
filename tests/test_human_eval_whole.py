"""HumanEval whole, with a real model: half an hour, so only `-m nightly`."""

import json

import pytest

from acereason_jax import evaluate
from benchmarks import human_eval_parity

pytestmark = pytest.mark.nightly

# docs/measured.md: 656 rollouts of SmolLM2-135M-Instruct.
AVERAGE = 0.0503
# Its standard error of other draws; another machine rounds otherwise.
RERUN_ERROR = 0.0046
# Their checks use a function of the prompt, which a program may replace there.
REPLACEABLE = {'HumanEval/32', 'HumanEval/38', 'HumanEval/50'}


def test_the_average_and_every_verdict(tmp_path, jails):
  out = tmp_path / 'out'
  argv = ['evaluate', '--config=configs/eval_human_eval.py', f'--out={out}']
  assert evaluate.main(argv) == 0
  results = json.loads((out / 'results.json').read_text())
  entry = results['benchmarks']['humaneval']['strict']
  assert [entry['judged'], entry['failed']] == [656, 0]
  assert abs(entry['avg'] - AVERAGE) < 4 * RERUN_ERROR
  found = human_eval_parity.compared(out)
  assert len(found) == 656
  differ = [one for one in found if not one.agree]
  assert {one.id for one in differ} <= REPLACEABLE, differ
