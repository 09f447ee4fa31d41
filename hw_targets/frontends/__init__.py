"""Models from elsewhere as networks: what a model computes, whatever the chip."""
