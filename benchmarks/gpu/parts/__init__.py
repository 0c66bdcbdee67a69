"""The parts of the kit, a module each with `run(record, settings)`."""
