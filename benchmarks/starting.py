"""What each process reads and computes before the first step of a run.

    python -m benchmarks.starting read --processes=4 --mesh 1 4 1
    python -m benchmarks.starting tokens

`read` gives each process its own copy of a synthetic model (576 MB in bfloat16)
that is not in the page cache. They load it together as float32 over a mesh of
data, fsdp and tensor; read_mb is what the kernel then holds of a copy, peak_mb
the process's memory. `tokens` makes prompts of 15 to 80 random words with the
embedded model's tokenizer, and gives the CPU seconds of this process and of the
tokenizer's. Both print one JSON line a process.
"""

import argparse
import ctypes
import functools
import json
import mmap
import os
import pathlib
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time

import jax
import ml_dtypes
import numpy as np

from acereason_jax import mesh as mesh_lib
from acereason_jax.data import sources
from acereason_jax.models import (
  base,
  embedded,
  families,
  hf,
  sharding,
  tensorfiles,
  tokens,
)

# A narrow Qwen2 of four layers.
CONFIG = dict(
  architectures=['Qwen2ForCausalLM'],
  vocab_size=65536,
  hidden_size=1536,
  intermediate_size=8960,
  num_hidden_layers=4,
  num_attention_heads=12,
  num_key_value_heads=2,
  max_position_embeddings=4096,
  rms_norm_eps=1e-6,
  rope_theta=1e6,
  tie_word_embeddings=True,
  hidden_act='silu',
)
WORDS = (
  'find the number of positive integers such that for all real x and y '
  'triangle area perimeter circle radius sequence defined recursively sum '
  'product $n$ $\\frac{a}{b}$ $x^2+y^2=25$ polynomial degree root divisor'
)
SUFFIX = (
  '\nPlease reason step by step, and put your final answer within \\boxed{}.'
)
PAGE = mmap.PAGESIZE


def write_model(folder: pathlib.Path) -> None:
  folder.mkdir()
  (folder / 'config.json').write_text(json.dumps(CONFIG))
  specs = jax.tree.leaves(
    families.from_config(CONFIG).specs, is_leaf=base.is_spec
  )
  shapes = {
    spec.name.format(*index): spec.shape[spec.stacked :]
    for spec in specs
    for index in np.ndindex(spec.shape[: spec.stacked])
  }
  draw = np.random.default_rng(0)
  values = (
    draw.integers(0, 1 << 14, shape, np.uint16).view(ml_dtypes.bfloat16)
    for shape in shapes.values()
  )
  header = {
    name: tensorfiles.Tensor('', 'BF16', shape, 0, 0)
    for name, shape in shapes.items()
  }
  tensorfiles.write_tensors(folder / tensorfiles.SINGLE, header, values)


def held_bytes(path: pathlib.Path) -> int:
  """How many of the file's bytes are in the page cache."""
  with open(path, 'rb') as file:
    size = os.fstat(file.fileno()).st_size
    mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
  found = (ctypes.c_ubyte * -(-size // PAGE))()
  at = ctypes.c_void_p(np.frombuffer(mapped, np.uint8).ctypes.data)
  if ctypes.CDLL(None).mincore(at, ctypes.c_size_t(size), found):
    raise OSError('mincore failed')
  return int((np.frombuffer(found, np.uint8) & 1).sum()) * PAGE


def load(folder: pathlib.Path, at: str, index: int, args) -> None:
  """One process of `read`."""
  if args.processes > 1:
    jax.distributed.initialize(at, args.processes, index)
  weights = folder / tensorfiles.SINGLE
  with open(weights, 'rb') as file:
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
  data, fsdp, tensor = args.mesh
  mesh = mesh_lib.make_mesh(data=data, fsdp=fsdp, tensor=tensor)
  specs = families.read(str(folder)).specs
  placed = sharding.param_shardings(specs, mesh, gathered=args.gathered)
  began, cpu = time.monotonic(), time.process_time()
  jax.block_until_ready(
    hf.load(str(folder), specs, dtype=np.float32, shardings=placed)
  )
  told = dict(
    process=index,
    file_mb=weights.stat().st_size / 1e6,
    read_mb=held_bytes(weights) / 1e6,
    seconds=time.monotonic() - began,
    cpu_seconds=time.process_time() - cpu,
    peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  )
  print(json.dumps({k: round(v, 2) for k, v in told.items()}), flush=True)


def read(args: argparse.Namespace) -> None:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    at = f'127.0.0.1:{s.getsockname()[1]}'
  env = os.environ | {'JAX_PLATFORMS': 'cpu'}
  with tempfile.TemporaryDirectory() as root:
    folders = [pathlib.Path(root, str(i)) for i in range(args.processes)]
    for folder in folders:
      write_model(folder)
    os.sync()
    command = [sys.executable, '-m', __spec__.name, *sys.argv[1:], f'--at={at}']
    started = [
      subprocess.Popen(
        [*command, f'--folder={folder}', f'--process={i}'], env=env
      )
      for i, folder in enumerate(folders)
    ]
    failed = [process.wait() for process in started]
  if any(failed):
    raise SystemExit('a process failed')


def make_tokens(args: argparse.Namespace) -> None:
  draw, words = random.Random(0), WORDS.split()
  texts = (
    ' '.join(draw.choices(words, k=draw.randint(15, 80)))
    for _ in range(args.prompts)
  )
  rows = [sources.Row(str(i), text, '') for i, text in enumerate(texts)]
  tokenizer = tokens.load_tokenizer(embedded.path('smollm2-135m'))
  own, other = time.process_time(), tokenizer._worker.seconds
  prompts, _ = sources.to_prompts(
    rows,
    tokenizer,
    chats_tokens=functools.partial(tokens.chats_tokens, opens=''),
    system=None,
    examples=(),
    suffix=SUFFIX,
    max_tokens=sys.maxsize,
  )
  told = dict(
    prompts=len(prompts),
    tokens=sum(len(p.tokens) for p in prompts),
    cpu_seconds=round(time.process_time() - own, 2),
    tokenizer_cpu_seconds=round(tokenizer._worker.seconds - other, 2),
    digest=tokens.digest(prompts),
  )
  print(json.dumps(told))


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('part', choices=['read', 'tokens'])
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument('--mesh', type=int, nargs=3, default=[1, -1, 1])
  parser.add_argument(
    '--gathered', action='store_true', help='Whole weights, as of rollouts.'
  )
  parser.add_argument('--prompts', type=int, default=49585)
  for name in ('folder', 'at', 'process'):
    parser.add_argument(f'--{name}', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.part == 'tokens':
    make_tokens(args)
  elif args.folder:
    load(pathlib.Path(args.folder), args.at, int(args.process), args)
  else:
    read(args)


if __name__ == '__main__':
  main()
