"""Experiments: protocols, `accrete bench` and `accrete demo`. May import everything; nothing imports it."""
