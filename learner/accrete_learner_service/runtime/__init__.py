"""What surrounds the learner's work, such as its lease, logs, metrics and reports."""
