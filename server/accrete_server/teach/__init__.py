"""The Teaching service, with the way of examples from the wire to the store."""
