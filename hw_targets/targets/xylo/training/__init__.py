"""Xylo's neurons for training: torch modules that compute the chip's integers, with gradients beside them."""
