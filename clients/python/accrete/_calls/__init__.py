"""The calls themselves: requests from what users give, and results from what servers return."""
