"""How the libraries of NVIDIA's Hopper GPUs run operations."""
