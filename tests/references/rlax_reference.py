"""rlax, imported past the deprecated names of jax that it and its needs touch."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import rlax

__all__ = ["rlax"]
