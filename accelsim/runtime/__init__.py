"""How accelsim runs: compiled code and its cache, worker processes, interruptions."""
