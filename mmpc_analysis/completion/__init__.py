"""Models, their prompts, and what they answered."""
