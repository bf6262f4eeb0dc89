"""The model held against references: measurements and other simulators."""
