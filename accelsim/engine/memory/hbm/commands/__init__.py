"""Banks behind a controller that chooses command by command: the second opinion."""
