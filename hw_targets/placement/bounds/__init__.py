"""Lower bounds on cores, proven or, for memory, nearly so."""
