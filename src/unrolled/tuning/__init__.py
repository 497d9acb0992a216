"""The search for settings: at random, by successive halving (`unrolled tune`)."""

from .search import tune

__all__ = ["tune"]
