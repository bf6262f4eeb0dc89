"""Textbook attention, whose scores and probabilities go through HBM."""
