"""Hugging Face generate on a case of benchmarks/rollout.py; see there.

python -m venv hf && hf/bin/pip install torch==2.13.0 transformers==5.23.0
python -m benchmarks.rollout --hf=hf/bin/python
"""

import json
import sys
import time

import torch
import transformers


def main() -> None:
  case = json.load(sys.stdin)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    case['model'], dtype=torch.float32
  )
  model.eval()
  tokens = torch.tensor(case['tokens_BS'])

  def generate() -> torch.Tensor:
    with torch.inference_mode():
      return model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_new_tokens=case['max_tokens'],
        max_new_tokens=case['max_tokens'],
        pad_token_id=0,
      )

  generate()
  seconds = []
  for _ in range(case['repeats']):
    began = time.process_time(), time.perf_counter()
    out = generate()
    ended = time.process_time(), time.perf_counter()
    assert out.shape == (tokens.shape[0], tokens.shape[1] + case['max_tokens'])
    seconds.append([b - a for a, b in zip(began, ended)])
  versions = dict(torch=torch.__version__, hf=transformers.__version__)
  print(json.dumps(dict(seconds=seconds, versions=versions)))


if __name__ == '__main__':
  main()
