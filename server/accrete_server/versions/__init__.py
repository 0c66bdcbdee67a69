"""The model versions in this server, which are loaded and swapped in step with the store."""
