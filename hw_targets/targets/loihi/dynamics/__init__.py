"""Loihi's neuron: one reference step, and the fast engines that are held to it."""
