"""Files for SANA-FE, an architecture simulator that judges counts, energies and times."""
