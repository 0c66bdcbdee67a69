"""The learner's loop, its lease and the retention of versions."""
