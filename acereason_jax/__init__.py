"""Reinforcement learning of reasoning models in JAX (arXiv 2505.16400)."""

import os

# transformers, used only for tokenizers, else says at every start that torch
# is missing. Read when it is imported, so it must be set before.
os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')
