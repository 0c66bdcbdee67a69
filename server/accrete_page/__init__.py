"""The page: what a node does and has learned, in a browser. A client of gRPC under its caller's own token."""
