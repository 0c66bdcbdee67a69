"""Generated stubs of the Open Inference Protocol; used by the server alone."""
