"""What neurons take of a core: axons, lists of synapses, bits."""
