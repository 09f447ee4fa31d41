"""What pruning, counting and emulation cost, measured beside what one would do without them: `make bench`."""
