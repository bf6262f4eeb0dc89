"""Memories off chip: flat channels, or banks whose bursts or commands are timed."""
