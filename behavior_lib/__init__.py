"""Behaviour events in, user and item embeddings out: Spark, Delta, Petastorm, Horovod, PyTorch and MLflow."""

from behavior_lib.version import __version__

__all__ = ["__version__"]
