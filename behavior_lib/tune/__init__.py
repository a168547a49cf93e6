"""Search over configurations: the space, the study that remembers, and the trials."""
