"""Reinforcement learning of reasoning models in JAX (arXiv 2505.16400)."""
