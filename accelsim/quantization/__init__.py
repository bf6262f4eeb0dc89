"""Post-training quantization: what every integer scheme does to values, in plain NumPy.

The quantizers that kernels share, the float64 statement of each scheme that kernels are judged by,
and the calibration of a real model, saved to and loaded from a file.
"""
