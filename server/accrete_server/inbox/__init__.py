"""Images that the model was unsure of: which are kept, and what people make of them."""
