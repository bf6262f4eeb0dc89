"""Where needles are planted in texts."""

from typing import NamedTuple


class Search(NamedTuple):
    """Where needles are planted."""

    lengths: tuple[int, ...] = (512, 1024)
    """Tokens of a prompt: text, needle and question."""
    depths: tuple[float, ...] = (0.1, 0.5, 0.9)
    """Share of the text that is before the needle."""
    trials: int = 4
    """Prompts of every length and depth from every text, each with pages and a key of its own."""
    seed: int = 0
    """Of the keys."""
    decode: bool = False
    """Whether the text is read at once, and then question and answer are decoded one by one."""
