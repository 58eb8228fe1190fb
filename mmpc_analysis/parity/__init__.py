"""The published implementation's numbers, and every step from them to ours."""
