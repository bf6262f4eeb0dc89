"""The memory system behind the DMA queues: one door, an L2 if there is one, and an HBM."""
