"""Design-space sweeps: axes, executors and a durable store."""
