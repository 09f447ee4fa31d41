"""Files: written whole or not at all, and HDF5 from strangers read with care."""
