"""What kernels do to a real language model: its perplexity, and the cost of the same pass."""
