"""Lava's own simulator as the judge; Lava is imported in a process of its own."""
