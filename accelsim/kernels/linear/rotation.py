"""Rotation of input channels before they are quantized: a parameter, and its matrices.

Sources: Ashkboos et al., "QuaRot", 2024, arXiv 2404.00456; Liu et al., "SpinQuant", 2024, arXiv
2405.16406. Both turn activations in the run and weights before it, so that Y stays what it is.
"""

from typing import Literal

from accelsim.kernels import language as al
from accelsim.quantization.rotation import Rotation, hadamard_rotation, usual_block


class RotationParameters(al.Spec):
    """How input channels are rotated."""

    rotation: Literal["none", "hadamard"] = "none"
    """Whether blocks of channels are multiplied by a Hadamard matrix before X and W are quantized:
    X in the run, W before it."""
    rotation_block: al.Size | None = None
    """Channels of a block, a power of two that divides them; absent: 128, or fewer if need be."""

    def rotation_of(self, problem: al.GemmProblem) -> Rotation | None:
        """Return the rotation of a linear, if there is one; raises QuantizationError."""
        if self.rotation == "none":
            return None
        return hadamard_rotation(problem.k, self.rotation_block or usual_block(problem.k))


def rotated(tensors: al.GemmTensors, rotation: Rotation | None) -> al.GemmTensors:
    """Return X and W as they are quantized."""
    if rotation is None:
        return tensors
    x, w = rotation.of_activations(tensors.a), rotation.of_weights(tensors.b)
    return tensors._replace(a=x, b=w)
