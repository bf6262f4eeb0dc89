"""Attention over keys without the mean of their tile, whose scores are small enough for FP16."""
