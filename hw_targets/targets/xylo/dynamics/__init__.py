"""Xylo's step: one reference, and the fast engine that is held to it."""
