"""Teaches a running node group by group of classes, and measures it after each."""
