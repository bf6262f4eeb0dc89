"""The vector functions by name."""

from accelsim.kernels.vector.add_rmsnorm import AddRmsnorm
from accelsim.kernels.vector.argmax import Argmax
from accelsim.kernels.vector.base import VectorFunction
from accelsim.kernels.vector.coded import CodedMatrix
from accelsim.kernels.vector.combine import Combine
from accelsim.kernels.vector.embedding import Embedding
from accelsim.kernels.vector.join_heads import JoinHeads
from accelsim.kernels.vector.kv_write import KvWrite
from accelsim.kernels.vector.matrix import MatrixFunction
from accelsim.kernels.vector.permute import Permute
from accelsim.kernels.vector.rotary import Rotary
from accelsim.kernels.vector.router import Router

_OWN: dict[str, type[VectorFunction]] = {
    "add_rmsnorm": AddRmsnorm,
    "add_layernorm": AddRmsnorm,
    "rotary": Rotary,
    "norm_rotary": Rotary,
    "join_heads": JoinHeads,
    "embedding": Embedding,
    "kv_write": KvWrite,
    "argmax": Argmax,
    "router": Router,
    "permute": Permute,
    "combine": Combine,
}
"""Functions with a file of their own; all others are those of `MatrixFunction`."""


def function_called(name: str, *, is_coded: bool = False) -> type[VectorFunction]:
    """Return the function of that name; is_coded: its result is stored as codes."""
    return _OWN.get(name, CodedMatrix if is_coded else MatrixFunction)
