"""Families of chips, one folder each: facts, formats, dynamics, exporters, and the simulator that judges them."""
