"""Real weights to a chip's integers."""
