"""Operation: status, versions, control and events."""
