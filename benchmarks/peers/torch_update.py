"""The update of benchmarks/update.py in torch; see there.

Reads the case from stdin, prints its measurements as the last line. Full
batches, no gradient checkpointing, scaled_dot_product_attention, AdamW: the
fastest choices on a CPU, and those of most programs.
"""

import json
import os
import resource
import sys
import time

import torch
import transformers


def main() -> None:
  case = json.load(sys.stdin)
  torch.set_num_threads(os.cpu_count())
  model = transformers.AutoModelForCausalLM.from_pretrained(
    case['model'], dtype=torch.float32, attn_implementation='sdpa'
  )
  model.train()
  optimizer = torch.optim.AdamW(
    model.parameters(), lr=case['learning_rate'], weight_decay=0.0
  )
  tokens_RT = torch.tensor(case['tokens_RT'])
  R, T = tokens_RT.shape[0], tokens_RT.shape[1] - 1
  adv_R1 = torch.where(torch.arange(R) % 2 == 1, 1.0, -1.0)[:, None]
  steps = []
  for _ in range(case['steps'] + 1):
    began = time.process_time(), time.perf_counter()
    logits_RTV = model(tokens_RT[:, :-1], use_cache=False).logits
    logp_RT = -torch.nn.functional.cross_entropy(
      logits_RTV.flatten(0, 1), tokens_RT[:, 1:].flatten(), reduction='none'
    ).view(R, T)
    ratio_RT = torch.exp(logp_RT - logp_RT.detach())
    loss = -(ratio_RT * adv_R1).mean()
    del logits_RTV
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    ended = time.process_time(), time.perf_counter()
    cpu, wall = (b - a for a, b in zip(began, ended))
    steps.append(dict(cpu_seconds=cpu, wall_seconds=wall))
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
  versions = dict(torch=torch.__version__, hf=transformers.__version__)
  print(
    json.dumps(
      dict(steps=steps[1:], peak_gb=peak, prompt_tokens=1, versions=versions)
    )
  )


if __name__ == '__main__':
  main()
