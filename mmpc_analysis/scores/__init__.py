"""One number per item and metric, and their averages."""
