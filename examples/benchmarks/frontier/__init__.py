"""Accuracy against sparsity, method by method on one budget: `make frontier`."""
