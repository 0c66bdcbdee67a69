"""Model versions in this server: load, swap, and stay in step with the store."""
