"""Delta snapshot → files → row groups → batches of arrays."""
