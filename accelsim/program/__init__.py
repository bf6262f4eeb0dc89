"""The tile program: the kernel language that records it, its verifier and printer."""
