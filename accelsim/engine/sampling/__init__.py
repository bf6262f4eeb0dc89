"""Schedules of programs of which only a sample was scheduled."""
