"""Deep steps, which train the backbone beside the loop while it goes on learning in closed form."""
