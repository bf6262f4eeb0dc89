"""Learned weights of scorers, from a file of the user or one that ships with accelsim."""

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.sparse.masks.base import Setting
from accelsim.kernels.files import find_parameter_file
from accelsim.workload.archives import read_arrays
from accelsim.workload.storage import stored_values


def weights_tensor(setting: Setting, name: str, heads: int, cols: int) -> al.Tensor:
    """Place the weights [heads, head_dim, cols] called `name` in HBM, one head below the other.

    They are read only if numbers are computed. Raises WorkloadError if the file is missing,
    damaged, or of other shapes.
    """
    data = _read(setting, name, heads, cols) if setting.builder.with_numbers else None
    return _place(setting, name, heads, cols, data)


def random_projection(setting: Setting, name: str, heads: int, cols: int) -> al.Tensor:
    """Place one seeded projection with orthogonal columns for all heads.

    Products of projected vectors have the expectation of the products of the vectors. Raises
    WorkloadError for more columns than rows.
    """
    dim, data = setting.grid.dim, None
    if cols > dim:
        raise al.WorkloadError(
            f"mask indexer: found index_dim {cols}, allowed without weights: up to head_dim = {dim}"
        )
    if setting.builder.with_numbers:
        rng = np.random.default_rng(setting.parameters.index_seed)
        basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
        scaled = basis[:, :cols] * (dim / cols) ** 0.5
        data = np.broadcast_to(scaled, (heads, dim, cols))
    return _place(setting, name, heads, cols, data)


def _read(setting: Setting, name: str, heads: int, cols: int) -> al.Array:
    parameters = setting.parameters
    if parameters.weights is None:
        raise al.WorkloadError(
            f"mask {parameters.mask} needs learned weights: sparse(mask={parameters.mask}, "
            f"weights=FILE), with the array "
            f"'{parameters.weights_prefix}{name}' [{heads}, {setting.grid.dim}, {cols}]"
        )
    path = find_parameter_file(parameters.weights)
    key = parameters.weights_prefix + name
    return read_arrays(path, {key: ((heads, setting.grid.dim, cols),)})[key]


def _place(setting: Setting, name: str, heads: int, cols: int, data: al.Array | None) -> al.Tensor:
    dim, stored = setting.grid.dim, setting.formats.stored
    if data is not None:
        data = np.ascontiguousarray(stored_values(data.reshape(heads * dim, cols), stored))
    return setting.builder.tensor(name, "input", heads * dim, cols, stored, data)
