"""The trainer process: one job from files to files. Importing this package imports no torch."""
