"""Saved tables to figures."""
