"""DYNAP-CNN and Speck, SynSense's chips of one convolution layer per core; sinabs is the judge of their integers."""
