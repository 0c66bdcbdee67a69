"""The Operation service, with status, versions and control of the learner."""
