"""Lava netx (.net): writing, reading, and all that the format alone asks for (layers in a row, relays, its clock)."""
