"""The step of benchmarks/step.py in TRL's GRPOTrainer.

    python3 -m venv /tmp/trl
    /tmp/trl/bin/pip install torch==2.13.0 trl==1.16.0 transformers==5.23.0
    python -m benchmarks.step --peer trl=/tmp/trl/bin/python

On a machine with a GPU take torch from download.pytorch.org/whl/cpu. Reads
the case from stdin, prints its measurements as the last line. TRL's defaults
except float32, no gradient checkpointing (less CPU time; it has more memory
than it needs) and a constant learning rate.
"""

import json
import os
import resource
import statistics
import sys
import tempfile
import time

import datasets
import torch
import transformers
import trl


class Clock(transformers.TrainerCallback):
  """CPU and wall seconds of each step, sampling included."""

  def __init__(self):
    self.steps = []

  def on_step_begin(self, *args, **kwargs):
    self._began = time.process_time(), time.perf_counter()

  def on_step_end(self, *args, **kwargs):
    cpu, wall = self._began
    self.steps.append(
      dict(
        cpu_seconds=time.process_time() - cpu,
        wall_seconds=time.perf_counter() - wall,
      )
    )


class Reward:
  """1 or 0 for every other rollout of a group; keeps what it has seen."""

  __name__ = 'alternating'

  def __init__(self):
    self.lengths = []

  def __call__(self, completion_ids, **kwargs):
    self.lengths += [len(ids) for ids in completion_ids]
    return [float(i % 2) for i in range(len(completion_ids))]


def make_config(case: dict, folder: str) -> trl.GRPOConfig:
  rollouts = len(case['prompts']) * case['groups']
  rows = min(case['peer_rows'], rollouts)
  return trl.GRPOConfig(
    output_dir=folder,
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    max_steps=case['steps'] + 1,
    per_device_train_batch_size=rows,
    gradient_accumulation_steps=rollouts // rows,
    num_generations=case['groups'],
    max_completion_length=case['tokens'],
    generation_kwargs=dict(min_new_tokens=case['tokens']),
    temperature=1.0,
    lr_scheduler_type='constant',
    save_strategy='no',
    report_to='none',
    disable_tqdm=True,
  )


def main() -> None:
  case = json.load(sys.stdin)
  torch.set_num_threads(os.cpu_count())
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(
    case['model']
  )
  lengths = [len(tokenizer(text).input_ids) for text in case['prompts']]
  clock, reward = Clock(), Reward()
  with tempfile.TemporaryDirectory() as folder:
    trainer = trl.GRPOTrainer(
      case['model'],
      reward,
      make_config(case, folder),
      train_dataset=datasets.Dataset.from_dict(dict(prompt=case['prompts'])),
      processing_class=tokenizer,
      callbacks=[clock],
    )
    trainer.train()
  assert set(reward.lengths) == {case['tokens']}, 'tokens were not forced'
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
  result = dict(
    steps=clock.steps[1:],
    peak_gb=peak,
    prompt_tokens=statistics.mean(lengths),
    versions=dict(
      trl=trl.__version__,
      torch=torch.__version__,
      transformers=transformers.__version__,
    ),
  )
  print(json.dumps(result))


if __name__ == '__main__':
  main()
