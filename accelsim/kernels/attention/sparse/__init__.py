"""Block-sparse attention, and the masks that say which blocks it keeps."""
