"""Generated stubs of the wire contract (protos/accrete/v1); protos/generate.py writes them."""
