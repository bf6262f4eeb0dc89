"""Figures from saved tables: the only package that knows matplotlib."""
