"""The gRPC server: answers Predict from memory, takes examples in, and swaps to new model versions without a pause."""
