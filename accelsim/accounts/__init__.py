"""What a run did, counted from its program and its schedule: actions, energy, area, power."""
