"""Fronts: how calls of Predict and ModelInfer come from gRPC to the pipeline, and how their answers go back."""
