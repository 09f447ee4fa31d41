"""One population cut into parts that fit a core: tiles of a convolution, runs of neurons."""
