"""The exemplar memory: its size, which examples stay, and the split that calibrates."""
