"""What the scores say of scale, category, cost and power."""
