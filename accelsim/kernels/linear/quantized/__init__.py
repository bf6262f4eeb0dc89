"""Linears in integers: each file is a way to quantize X and W."""
