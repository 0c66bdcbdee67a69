"""Learning by a closed form in the learner's own process, from features that are computed once."""
