"""How long a delay netx can hold."""

#: Steps; the longest delay that lava-dl 0.6.0 loads (`netx/hdf5.py`), of Loihi's 6 bits.
MAX_DELAY = 62
