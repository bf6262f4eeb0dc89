"""Attention algorithms."""
