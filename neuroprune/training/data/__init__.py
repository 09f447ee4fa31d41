"""What training takes as data, and the kinds there are."""
