"""Who may call what: principals, their roles, the one table from RPC to roles, and encryption."""
