"""Design-space sweeps: axes, points and a durable store."""
