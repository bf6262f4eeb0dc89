"""Attention whose products are those of integers."""
