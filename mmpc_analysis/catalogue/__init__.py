"""Products, their pictures and purchases, and what is hidden from the models."""
