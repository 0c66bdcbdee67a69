"""What every call passes: access, errors, counting, threads."""
