"""The Neuromorphic Intermediate Representation, written and read."""
