"""One machine's processes together, with their settings, commands and backups."""
