"""The gRPC server, which answers Predict from memory, takes examples in, and swaps to new versions without a pause."""
