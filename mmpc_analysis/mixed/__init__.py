"""Mixed-effects models: formulas, engines, intervals and tests."""
