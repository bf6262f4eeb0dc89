"""What collectives cost on the links of a system: algorithms, one a file, and their choice."""
