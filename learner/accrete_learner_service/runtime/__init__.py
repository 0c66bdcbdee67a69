"""What surrounds the work: background tasks, logs, metrics, reports."""
