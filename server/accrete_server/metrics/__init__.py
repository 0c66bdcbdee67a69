"""What the server measures of itself, and where Prometheus reads it."""
