"""Which kernel, with which parameters, computes an operation on a machine."""
