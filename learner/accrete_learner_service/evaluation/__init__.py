"""What a version says of examples, computed by the engine and the rule that serve."""
