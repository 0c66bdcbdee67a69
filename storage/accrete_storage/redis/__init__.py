"""The Redis or Valkey server: connection, requirements, key names and scripts."""
