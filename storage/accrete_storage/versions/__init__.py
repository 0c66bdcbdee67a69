"""Model versions: records, the registry, the commit of a step, prototypes."""
