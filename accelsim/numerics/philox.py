"""Random words that are a function of their place: Philox 4x32 with 10 rounds, compiled.

A counter and a key give four words of 32 bits, without a state, so that any element has the same
random bits whatever is computed before it. Source: Salmon, Moraes, Dror and Shaw, "Parallel Random
Numbers: As Easy as 1, 2, 3", SC 2011; cuRAND and PyTorch draw from the same generator.
"""

from typing import Any

import numpy as np

from accelsim.runtime.jit import jit

# Words are kept in 64 bits: their products need them.
_Word = np.uint64
_Words = tuple[_Word, _Word, _Word, _Word]
_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_WORD = np.uint64(0xFFFFFFFF)
_WORD_BITS = np.uint64(32)


@jit
def philox(counter: _Words, key: tuple[_Word, _Word]) -> _Words:
    """Return the four words of a counter of four words and a key of two."""
    a, b, c, d = counter
    left, right = key
    for _ in range(_ROUNDS):
        first, second = _MULTIPLIERS[0] * a, _MULTIPLIERS[1] * c
        a, b = (second >> _WORD_BITS) ^ b ^ left, second & _WORD
        c, d = (first >> _WORD_BITS) ^ d ^ right, first & _WORD
        left, right = (left + _WEYL_STEPS[0]) & _WORD, (right + _WEYL_STEPS[1]) & _WORD
    return a, b, c, d


@jit
def fill_random(words: Any, seed: int, stream: int, row: int) -> None:
    """Fill uint32 `words` with those of a row of a stream of a seed (each of 64 bits)."""
    key = np.uint64(seed) & _WORD, np.uint64(seed) >> _WORD_BITS
    low, high = np.uint64(stream) & _WORD, np.uint64(stream) >> _WORD_BITS
    whole = words.size // 4
    for i in range(whole):
        a, b, c, d = philox((np.uint64(i), np.uint64(row), low, high), key)
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = a, b, c, d
    a, b, c, d = philox((np.uint64(whole), np.uint64(row), low, high), key)
    for place, word in enumerate((a, b, c, d)):
        if 4 * whole + place < words.size:
            words[4 * whole + place] = word
