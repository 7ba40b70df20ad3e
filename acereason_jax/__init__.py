"""Reinforcement learning of reasoning models in JAX (arXiv 2505.16400)."""

import os

# setup.py reads it from here.
__version__ = '0.1.0'

# transformers is used only for tokenizers. Without this it says at every start
# that torch is missing. It reads this when it is imported.
os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')
