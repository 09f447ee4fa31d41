"""The training application: loop, budget, recipe, and data sets."""
