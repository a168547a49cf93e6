"""Honest judgement: ranking metrics, baselines on the same users, and the gate. Pure numpy."""
