"""Networks run step by step, in the chip's integers."""
