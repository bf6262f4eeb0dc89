"""Activity to joules, and area, from sourced cost tables."""
