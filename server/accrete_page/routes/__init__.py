"""The routes, a module per view."""
