"""What the documentation's figures come from. None of it is a test; `python -m benchmarks.NAME --short` tries one."""
