"""The kernel language whose ops are told extents and formats, until the last kernel is moved."""
