"""What a kernel leaves open is settled: the estimate ranks, the simulator decides."""
