"""`accrete bench`: class-incremental protocols, offline and through the live server."""
