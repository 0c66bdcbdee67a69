"""Versions in an object store: S3, Google Cloud Storage, Azure, or a folder that is shared."""
