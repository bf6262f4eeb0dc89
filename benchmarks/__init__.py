"""Speed and memory of accelsim, measured and printed; nothing here is asserted."""
