"""The training loop and what it needs: network, schedule, precision."""
