"""What can be learned from histories without labels, one file a kind."""
