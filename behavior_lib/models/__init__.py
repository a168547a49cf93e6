"""Encoders: histories in, user vectors and scores of next items out. Pure torch."""
