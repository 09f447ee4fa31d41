"""Run folders: what belongs together and is proven to, and runs that are not finished yet."""
