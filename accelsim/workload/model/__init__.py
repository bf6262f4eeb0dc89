"""A real language model: fetched once, read offline, run in NumPy, its tensors captured."""
