"""What a step of a model asks of a machine, one part of a layer a file."""
