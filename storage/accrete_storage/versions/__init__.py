"""Model versions, with their records, the registry, the commit of a step, and prototypes."""
