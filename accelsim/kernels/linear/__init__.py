"""Linear algorithms."""
