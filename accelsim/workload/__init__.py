"""What is asked: problems and their tensors."""
