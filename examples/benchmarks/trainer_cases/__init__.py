"""Training loops of other packages, each against the same loop written by hand."""
