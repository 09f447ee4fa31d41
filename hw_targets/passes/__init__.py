"""Networks to networks, every spike kept: nothing here knows a chip by name."""
