"""How near a completion is to the truth, by words, meaning, pixels and features."""
