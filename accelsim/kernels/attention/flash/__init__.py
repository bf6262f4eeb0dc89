"""Attention with online softmax: its steps, its tiles and their estimate."""
