"""The learner's process, which watches what is pending, starts steps, gates their candidates and commits them."""
