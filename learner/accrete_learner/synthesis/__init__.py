"""Exemplars that are more than chosen examples, one way a file; `recipes` says what each choice of a memory is made of."""
