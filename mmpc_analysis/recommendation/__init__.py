"""Recommenders, and what completions are worth to them."""
