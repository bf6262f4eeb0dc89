"""Block masks: which key blocks each block of query rows attends to."""
