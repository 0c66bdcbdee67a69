"""What surrounds the work: logs, metrics, reports, priorities."""
