"""A shop's real gaps filled at a risk that it names, marked, reviewed, and written back for its import."""
