"""Training a model on rewards from the catalogue, the controls beside it, and what either changed."""
