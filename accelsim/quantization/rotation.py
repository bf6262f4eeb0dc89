"""Hadamard rotations: activations x [rows, k] times Q, weights w [k, n] times its transpose.

Q is orthogonal, so the product stays what it is, while outliers of few channels are spread over all
of a block. It is block-diagonal, with one normalized Hadamard matrix a block, after a change of the
signs of channels at random. Sources: QuaRot, arXiv 2404.00456, sections 3 and 4; SpinQuant, arXiv
2405.16406, section 3, where such a rotation is where the learned ones begin.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import QuantizationError
from accelsim.numerics.formats import Format
from accelsim.numerics.hadamard import hadamard_columns, hadamard_rows
from accelsim.quantization.codes import Values


class Rotation(NamedTuple):
    """Q = diag(signs) diag(H, H, ...), each H a normalized Hadamard matrix of `block` channels."""

    block: int
    signs: Values
    """+1 or -1 of every channel [k]."""

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Q [k, k]."""
        places = np.arange(self.block)
        parity = np.bitwise_count(places[:, None] & places) % 2
        hadamard = (1 - 2.0 * parity) / np.sqrt(self.block)
        blocks = np.eye(len(self.signs) // self.block)
        return self.signs.astype(np.float64)[:, None] * np.kron(blocks, hadamard)

    def of_activations(self, x: Values, fmt: Format = Format.FP32) -> Values:
        """Return x Q [rows, k], every stage of the fast transform rounded to `fmt`."""
        self._check_channels(x.shape[1], "activations")
        rotated = np.array(x * self.signs, np.float32, order="C")
        hadamard_rows(rotated, *rotated.shape, self.block, fmt.code)
        return rotated

    def of_weights(self, w: Values, fmt: Format = Format.FP32) -> Values:
        """Return the transpose of Q times w [k, n], every stage rounded to `fmt`."""
        self._check_channels(len(w), "weights")
        rotated = np.array(w * self.signs[:, None], np.float32, order="C")
        hadamard_columns(rotated, *rotated.shape, self.block, fmt.code)
        return rotated

    def _check_channels(self, channels: int, what: str) -> None:
        if channels != len(self.signs):
            raise QuantizationError(
                f"rotation: found {what} of {channels} channels, allowed: {len(self.signs)}"
            )


_USUAL_BLOCK = 128
"""Channels of a block, if no other number is given and they are that many."""


def usual_block(k: int) -> int:
    """Return the channels of a block of k, if no other number is given."""
    return min(k & -k, _USUAL_BLOCK)


def hadamard_rotation(k: int, block: int | None = None, seed: int | None = None) -> Rotation:
    """Return a rotation of k channels in blocks of a power of two, the largest if not given.

    Signs are random with a seed, and all +1 without. Raises QuantizationError for a block that is
    no power of two or does not divide k.
    """
    if k < 1:
        raise QuantizationError(f"rotation: found {k} channels, allowed: 1 or more")
    largest = k & -k
    size = largest if block is None else block
    if size < 1 or size & (size - 1) or k % size:
        raise QuantizationError(
            f"rotation: block: found {size} of {k} channels, allowed: powers of two up to {largest}"
        )
    if seed is None:
        return Rotation(size, np.ones(k, np.float32))
    signs = np.random.default_rng(seed).integers(0, 2, k) * 2 - 1
    return Rotation(size, signs.astype(np.float32))
