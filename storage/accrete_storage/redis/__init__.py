"""The Redis or Valkey server, with its connection, requirements, key names and scripts."""
