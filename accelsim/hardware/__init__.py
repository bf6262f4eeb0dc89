"""What exists: specs of units and memories, and their timing formulas."""
