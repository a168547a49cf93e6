"""What a raw source looks like, and a first YAML for it: guesses from facts. Pure Python; the facts come from Spark."""
