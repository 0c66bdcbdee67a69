"""The learner's process: watches what is pending, starts steps, gates their candidates and commits them."""
