"""Several populations on a core: packed, room filled, light cores dissolved."""
