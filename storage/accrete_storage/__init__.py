"""What Accrete keeps: pending examples, the exemplar memory, the registry of versions and their files; no torch, no gRPC."""
