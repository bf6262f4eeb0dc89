"""What a model costs on a system: its steps, a generation, and the memory it takes."""
