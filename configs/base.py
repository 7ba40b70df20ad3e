"""The defaults: acereason_jax/config/base.py, where each field is explained."""

from acereason_jax.config.base import get_config

__all__ = ['get_config']
