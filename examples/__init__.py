"""Benchmarks and recipes."""
