"""Intel Loihi: current-based neurons in integers, as Lava computes them."""
