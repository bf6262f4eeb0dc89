"""What attention and linears in integers share: how values become codes, and in what order."""
