"""A study from its declaration to its report, in Python and on the command line."""
