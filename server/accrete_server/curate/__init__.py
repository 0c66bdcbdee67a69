"""What classes are made of, how versions judged it, and what classes are called."""
