"""The step of benchmarks/step.py in Tunix's GRPOLearner.

    python3 -m venv /tmp/tunix
    /tmp/tunix/bin/pip install google-tunix==0.1.7
    python -m benchmarks.step --peer tunix=/tmp/tunix/bin/python

Reads the case from stdin, prints its measurements as the last line. Tunix's
defaults except float32, no KL penalty, and a stop token that is not a token.
Steps overlap inside `train`, so a step is measured from the end of one sampling
to the end of the next: an update and a sampling.
"""

import json
import resource
import statistics
import sys
import time
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax
import transformers
from tunix.models.llama3 import model as llama
from tunix.models.llama3 import params
from tunix.rl import rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout


class Reward:
  """1 or 0 for every other rollout of a group; a clock of the samplings."""

  __name__ = 'alternating'

  def __init__(self):
    self.clock = []

  def __call__(self, prompts, completions, **kwargs):
    self.clock.append((time.process_time(), time.perf_counter()))
    return [float(i % 2) for i in range(len(completions))]

  def steps(self) -> list[dict]:
    return [
      dict(cpu_seconds=after[0] - before[0], wall_seconds=after[1] - before[1])
      for before, after in zip(self.clock, self.clock[1:])
    ]


def model_config(directory: str) -> llama.ModelConfig:
  with open(f'{directory}/config.json') as file:
    c = json.load(file)
  return llama.ModelConfig(
    num_layers=c['num_hidden_layers'],
    vocab_size=c['vocab_size'],
    embed_dim=c['hidden_size'],
    hidden_dim=c['intermediate_size'],
    num_heads=c['num_attention_heads'],
    head_dim=c['head_dim'],
    num_kv_heads=c['num_key_value_heads'],
    rope_theta=c['rope_theta'],
    norm_eps=c['rms_norm_eps'],
    weight_tying=c['tie_word_embeddings'],
  )


def make_config(case: dict, mesh, window: int, vocab: int):
  prompts = len(case['prompts'])
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(1e-6, weight_decay=0.0)
  )
  return rl_cluster.ClusterConfig(
    role_to_mesh=dict.fromkeys(rl_cluster.Role, mesh),
    training_config=rl_cluster.RLTrainingConfig(
      actor_optimizer=optimizer,
      eval_every_n_steps=1000,
      max_steps=case['steps'] + 2,
      mini_batch_size=prompts,
      train_micro_batch_size=min(
        max(case['peer_rows'] // case['groups'], 1), prompts
      ),
      rollout_micro_batch_size=prompts,
      compute_logps_micro_batch_size=prompts,
    ),
    rollout_config=base_rollout.RolloutConfig(
      max_tokens_to_generate=case['tokens'],
      temperature=1.0,
      max_prompt_length=window,
      # Tunix pads prompts to a power of two.
      kv_cache_size=(1 << (window - 1).bit_length()) + case['tokens'] + 1,
      eos_tokens=[vocab],
    ),
  )


def main() -> None:
  case = json.load(sys.stdin)
  tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(
    case['model']
  )
  lengths = [len(tokenizer.encode(text)) for text in case['prompts']]
  config = model_config(case['model'])
  mesh = jax.make_mesh(
    (1, 1), ('fsdp', 'tp'), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  cluster = rl_cluster.RLCluster(
    actor=params.create_model_from_safe_tensors(
      case['model'], config, mesh, jnp.float32
    ),
    tokenizer=tokenizer,
    cluster_config=make_config(case, mesh, max(lengths), config.vocab_size),
  )
  reward = Reward()
  learner = grpo_learner.GRPOLearner(
    cluster,
    grpo_learner.GRPOConfig(num_generations=case['groups'], beta=0.0),
    reward_fns=reward,
  )
  batch = dict(prompts=np.array(case['prompts']))
  with mesh:
    learner.train([batch] * (case['steps'] + 2))
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
  result = dict(
    steps=reward.steps()[1:],
    peak_gb=peak,
    prompt_tokens=statistics.mean(lengths),
    versions={n: metadata.version(n) for n in ('google-tunix', 'jax')},
  )
  print(json.dumps(result))


if __name__ == '__main__':
  main()
