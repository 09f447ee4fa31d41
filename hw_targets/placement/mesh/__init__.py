"""Cores on the mesh of routers, and the traffic between them."""
