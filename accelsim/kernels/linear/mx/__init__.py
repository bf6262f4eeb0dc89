"""Linears of operands whose elements share scales, on the matrix unit or the integer array."""
