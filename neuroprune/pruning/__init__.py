"""Soft threshold pruning in the optimizer step: the pruner, latent parameters, proximal maps, caps, checkpoints."""
