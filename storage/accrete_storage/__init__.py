"""What Accrete keeps: pending examples, exemplars, the registry of versions and their files. No torch, no gRPC."""
