"""One machine's processes together: settings, `accrete up` and its kin, backups."""
