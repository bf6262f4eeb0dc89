"""Files to frozen specs: strict keys, quantities with units, errors with file, line and key."""
