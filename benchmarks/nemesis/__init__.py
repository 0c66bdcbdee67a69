"""What strikes a running node, what callers were told meanwhile, and the check that both fit together."""
