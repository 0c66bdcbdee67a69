"""Teaching: examples from the wire to the store."""
