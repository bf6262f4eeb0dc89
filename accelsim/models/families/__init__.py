"""What each `model_type` means, one family a file."""
