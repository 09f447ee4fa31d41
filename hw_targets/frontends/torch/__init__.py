"""Trained PyTorch models, read as networks of spiking populations."""
