"""The learner's loop, and which versions it retires."""
