"""Banks whose bursts are placed once, in the first slots that the rules leave free."""
