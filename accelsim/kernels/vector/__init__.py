"""Functions of elements and rows of a matrix, which the vector unit computes alone."""
