"""Histories in, vectors and next items out: the same code for jobs, notebooks and the registered model."""
