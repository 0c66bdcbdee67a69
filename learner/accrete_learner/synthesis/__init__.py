"""Exemplars that are more than chosen examples, one way a file; `recipes` says what each memory is made of."""
