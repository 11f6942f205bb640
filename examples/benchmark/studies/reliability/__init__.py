"""Faults of losses and gradients, and what they leave of a run."""
