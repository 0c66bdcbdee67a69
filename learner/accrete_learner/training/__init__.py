"""The training loop with the network, schedule and precision that it needs."""
