"""The trainer process, which runs one job from files to files. Importing this package imports no torch."""
