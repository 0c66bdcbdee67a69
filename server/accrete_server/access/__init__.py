"""Who may call what, with principals, their roles, the one table from RPC to roles, and encryption."""
