"""Chips of which limits are published, but nothing that could judge their integers: `fit` answers, nothing else."""
