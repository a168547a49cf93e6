"""Keys of pseudonyms, ids to forget, and the search for what is left of them. No Spark."""
