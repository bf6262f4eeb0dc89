"""Number formats, rounding and error metrics."""
