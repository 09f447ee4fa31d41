"""Coverage tables: what of a framework is read exactly, and what is refused with what to do instead."""
