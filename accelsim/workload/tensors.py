"""The values of a problem's tensors, rounded to their formats in HBM."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputRangeWarning, ShortageError, WorkloadError
from accelsim.numerics.formats import Format
from accelsim.workload.archives import AllowedShapes, Arrays, find_file, read_arrays
from accelsim.workload.coded_cache import coded_cache
from accelsim.workload.model.capture import capture_heads, capture_linear, check_window
from accelsim.workload.model.place import find_model
from accelsim.workload.problem import (
    AttentionProblem,
    Problem,
    Shapes,
    VectorProblem,
)
from accelsim.workload.sources import (
    FileSource,
    HybridSource,
    ModelHeadsSource,
    ModelLinearSource,
    UniformSource,
)
from accelsim.workload.storage import count_beyond, stored_values
from accelsim.workload.vector import rotary_table

_SCALED = "k", "v"
_ROWS = "q", "k", "v"
"""Tensors of attention with rows of sequences."""
_NOTHING = np.zeros((0, 0), np.float32)
OUTLIER_PROBABILITY = 0.001
"""Share of outliers in the hybrid family (PASA's verification script, commit 14f5c6f)."""


class Reader(NamedTuple):
    """The linear of a model that reads an output."""

    linear: str
    """Such as `layer3.o`."""
    model: str


class AttentionTensors(NamedTuple):
    """Inputs of attention, float32 holding values of their format in HBM.

    The keys are k times k_scale, the values v times v_scale. With `sequences`, each is a matrix of
    all rows, [heads x rows of all sequences, head_dim].
    """

    q: NDArray[np.float32]
    """[batch x q_heads, steps x q_len, head_dim]"""
    k: NDArray[np.float32]
    """[batch x kv_heads, kv_len, head_dim]"""
    v: NDArray[np.float32]
    """[batch x kv_heads, kv_len, value_dim]"""
    k_scale: float = 1.0
    """What the keys were divided by when they were stored."""
    v_scale: float = 1.0
    """What the values were divided by."""
    reader: Reader | None = None
    """Who reads the output, for what is known of its channels from a calibration."""
    sinks: NDArray[np.float32] | None = None
    """[q_heads, 1], the logit of each query head that has no key; None: there are none."""
    codes: Mapping[str, NDArray[np.float32]] | None = None
    """The matrices that keep K and V as codes, k_codes and others (`workload.coded_cache`); k and v
    are what these stand for. None: they are kept as they are."""

    def parts(self, problem: AttentionProblem) -> Iterator[tuple[AttentionProblem, Self]]:
        """Yield the parts of a problem and the tensors of each, [batch x heads, rows, width]."""
        rows = dict.fromkeys(_ROWS, 0)
        for part in problem.parts:
            own = {}
            for name, shape in _row_shapes(part).items():
                first, count = rows[name], shape[0] * shape[1]
                matrix = getattr(self, name).reshape(-1, shape[2])
                own[name] = matrix[first : first + count].reshape(shape)
                rows[name] += count
            yield part, self._replace(**own)

    def at_step(self, problem: AttentionProblem, step: int) -> Self:
        """Return the tensors of one step of a problem: its rows of Q, and the cache as it is then.

        Their shapes are those of `problem.at_step(step)`.
        """
        if problem.steps == 1:
            return self
        shapes = _row_shapes(problem.at_step(step))
        rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in shapes}
        for part, own in self.parts(problem):
            seen = part.at_step(step).kv_len
            rows["q"].append(own.q[:, step : step + 1])
            rows["k"].append(own.k[:, :seen])
            rows["v"].append(own.v[:, :seen])
        joined = {
            name: np.concatenate([each.reshape(-1, shapes[name][-1]) for each in found])
            for name, found in rows.items()
        }
        q, k, v = (joined[name].reshape(shape) for name, shape in shapes.items())
        return self._replace(q=q, k=k, v=v)


def _row_shapes(problem: AttentionProblem) -> Shapes:
    """Return the shapes of q, k and v; of v also where it is a part of k."""
    shapes = problem.input_shapes
    return {
        "q": shapes["q"],
        "k": shapes["k"],
        "v": (*shapes["k"][:-1], problem.widths.value),
    }


class GemmTensors(NamedTuple):
    """Inputs of a matrix product: float32 values or, for integer formats, int32 codes."""

    a: NDArray[Any]
    """[m, k]"""
    b: NDArray[Any]
    """[k, n], or [experts, k, n]"""
    linear: str | None = None
    """Name of the linear of a model whose input and weights these are, such as `layer3.q`."""
    model: str | None = None
    """Name of that model."""


class VectorTensors(NamedTuple):
    """Inputs of a vector function."""

    x: NDArray[np.float32]
    """[rows, cols]; of embedding the table, [table_rows, cols], of combine the rows of experts,
    [rows x top_k, cols]; of permute, which has numbers only, nothing"""
    y: NDArray[np.float32] | None = None
    """[rows, cols], the second operand: of silu_mul a factor, of add_rmsnorm the residual, of
    kv_write the rows of V; of rotary the table of cosines and sines, [table_rows, head_dim]; of
    combine the weights, [rows, top_k]."""
    reader: Reader | None = None
    """Who reads the result, for what is known of its channels from a calibration."""


Tensors = AttentionTensors | GemmTensors | VectorTensors


def load_tensors(problem: Problem, folder: Path) -> Tensors | None:
    """Return the tensors of `problem`, or None for a problem that names no source.

    Relative paths start at `folder`, the place of the workload file, then at the working
    directory. Raises WorkloadError or ShortageError that begins with the problem's name.
    """
    return load_counted_tensors(problem, folder)[0]


def load_counted_tensors(problem: Problem, folder: Path) -> tuple[Tensors | None, int]:
    """Return the tensors, and how many values lie beyond the largest number of their format.

    Warns of such values. Raises as `load_tensors` does.
    """
    try:
        values = _source_arrays(problem, folder)
        if values is None:
            return None, 0
        scales = _scales(problem, values)
        values |= {
            name: values[name] / scales[f"{name}_scale"]
            for name in _SCALED
            if scales and name in values
        }
        arrays = {name: _rounded(name, each, problem) for name, each in values.items()}
    except (WorkloadError, ShortageError) as error:
        raise error.at(f"workload '{problem.name}'") from error
    return _tensors(problem, arrays, scales, folder), _count_beyond(problem, values)


def _scales(problem: Problem, values: Arrays) -> dict[str, float]:
    """Return the scales of `AttentionTensors`, if K and V are divided by any when stored.

    Infinities and NaN have no part in a peak. Numbers of FP32, as a cache keeps them.
    """
    if not isinstance(problem, AttentionProblem) or problem.kv_scales == "one":
        return {}
    peaks = {f"{name}_scale": _finite_peak(values[name]) for name in _SCALED if name in values}
    largest = problem.kv_format.layout.largest
    return {name: float(np.float32(peak / largest)) or 1.0 for name, peak in peaks.items()}


def _finite_peak(values: NDArray[Any]) -> float:
    return float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))


def _tensors(
    problem: Problem, arrays: Arrays, scales: Mapping[str, float], folder: Path
) -> Tensors:
    if isinstance(problem, AttentionProblem):
        k_scale, v_scale = (scales.get(f"{name}_scale", 1.0) for name in _SCALED)
        values = arrays["k"][..., : problem.widths.value]
        if problem.values_in_keys:
            v_scale = k_scale
        else:
            values = arrays["v"]
        own = AttentionTensors(
            *(arrays["q"], arrays["k"], values),
            *(k_scale, v_scale),
            sinks=arrays.get("sinks"),
        )
        return own if problem.kv_codes is None else _with_codes(problem, own)
    if isinstance(problem, VectorProblem):
        return VectorTensors(arrays.get("x", _NOTHING), arrays.get("y"))
    tensors = GemmTensors(arrays["a"], arrays["b"])
    if isinstance(problem.tensors, ModelLinearSource):
        source = problem.tensors
        model = find_model(source.model, folder).name
        return tensors._replace(linear=f"layer{source.layer}.{source.linear}", model=model)
    return tensors


def _with_codes(problem: AttentionProblem, tensors: AttentionTensors) -> AttentionTensors:
    """Return the tensors with K and V as codes, and as what these stand for."""
    codes: Arrays = {}
    stored: list[NDArray[np.float32]] = []
    for name in _SCALED:
        heads = [x for _, own in tensors.parts(problem) for x in getattr(own, name)]
        values, matrices = coded_cache(problem, name, heads)
        rows = [x.reshape(-1, x.shape[-1]) for x in values]
        stored.append(np.concatenate(rows).reshape(getattr(tensors, name).shape))
        codes |= {f"{name}_{each}": matrix for each, matrix in matrices.items()}
    return tensors._replace(k=stored[0], v=stored[1], codes=codes)


def _count_beyond(problem: Problem, values: Arrays) -> int:
    """Return how many values lie beyond their format; warns once for each format."""
    total = 0
    for dtype in dict.fromkeys(problem.input_dtypes.values()):
        dtypes = problem.input_dtypes
        own = {name: each for name, each in values.items() if dtypes[name] == dtype}
        total += 0 if dtype.is_integer else _count_of_format(problem.name, dtype, own)
    return total


def _count_of_format(workload: str, dtype: Format, values: Arrays) -> int:
    counts = {name: count_beyond(each, dtype) for name, each in values.items()}
    found = [f"{n} of {values[name].size} in {name}" for name, n in counts.items() if n]
    if found:
        warnings.warn(
            f"workload '{workload}': values beyond {dtype.layout.largest:g}, the largest "
            f"number of {dtype}, {'saturate' if dtype.is_fp8 else 'become infinite'}: "
            f"{', '.join(found)}",
            InputRangeWarning,
            stacklevel=3,
        )
    return sum(counts.values())


def _rounded(name: str, values: NDArray[Any], problem: Problem) -> NDArray[Any]:
    try:
        rounded = stored_values(values, problem.input_dtypes[name])
    except WorkloadError as error:
        raise WorkloadError(f"array '{name}': {error}") from error
    return np.ascontiguousarray(rounded.reshape(problem.input_shapes[name]))


def _source_arrays(problem: Problem, folder: Path) -> Arrays | None:
    match problem.tensors:
        case UniformSource() as family:
            return _seeded(_uniform, family, problem.input_shapes) | _computed(problem)
        case HybridSource() as family:
            return _seeded(_hybrid, family, problem.input_shapes) | _computed(problem)
        case ModelHeadsSource() as source:
            rows = problem.steps * problem.q_len
            check_window(source, folder, problem.kv_len, problem.window)
            arrays = capture_heads(source, folder, problem.batch, rows, problem.kv_len)
        case ModelLinearSource() as source:
            arrays = capture_linear(source, folder, problem.m)
        case FileSource() as source:
            return _file_arrays(source, problem, folder)
        case None:
            return None
    _check_captured(arrays, problem.input_shapes)
    return arrays


def _seeded(
    family: Callable[..., NDArray[Any]], source: UniformSource | HybridSource, shapes: Shapes
) -> Arrays:
    _check_memory(shapes)
    return {
        name: family(np.random.default_rng([source.seed, stream]), shape, source)
        for stream, (name, shape) in enumerate(shapes.items())
    }


def _computed(problem: Problem) -> Arrays:
    """Return the inputs that no family draws: the cosines and sines of rotary."""
    if isinstance(problem, VectorProblem) and problem.function in ("rotary", "norm_rotary"):
        return {"y": rotary_table(*problem.input_shapes["y"])}
    return {}


def _uniform(
    rng: np.random.Generator, shape: tuple[int, ...], source: UniformSource
) -> NDArray[Any]:
    return (rng.random(shape) - 0.5) * (2 * source.amplitude) + source.mean


def _hybrid(rng: np.random.Generator, shape: tuple[int, ...], source: HybridSource) -> NDArray[Any]:
    values = source.mean + rng.standard_normal(shape)
    outliers = rng.random(shape) < OUTLIER_PROBABILITY
    values[outliers] += source.amplitude * rng.standard_normal(np.count_nonzero(outliers))
    return values


def _file_arrays(source: FileSource, problem: Problem, folder: Path) -> Arrays:
    wanted = {source.prefix + name: shapes for name, shapes in _allowed_shapes(problem).items()}
    arrays = read_arrays(find_file(source.path, folder), wanted)
    return {name.removeprefix(source.prefix): values for name, values in arrays.items()}


def _check_captured(arrays: Arrays, shapes: Shapes) -> None:
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise WorkloadError(
                f"the model gives {name} {list(arrays[name].shape)}, "
                f"the workload says {list(shape)}"
            )


def _allowed_shapes(problem: Problem) -> AllowedShapes:
    if not isinstance(problem, AttentionProblem) or problem.sequences:
        return {name: (shape,) for name, shape in problem.input_shapes.items()}
    batch = problem.batch
    return {
        name: ((heads, *rest), (batch, heads // batch, *rest))
        for name, (heads, *rest) in problem.input_shapes.items()
        if name in _ROWS
    } | {name: (shape,) for name, shape in problem.input_shapes.items() if name not in _ROWS}


def _check_memory(shapes: Shapes) -> None:
    float64_bytes = 8 * sum(prod(shape) for shape in shapes.values())
    if float64_bytes > machine_memory_bytes():
        raise WorkloadError(
            f"tensors {', '.join(shapes)} take {float64_bytes} bytes while they are made, "
            f"more than the {machine_memory_bytes()} bytes of memory here"
        )


def machine_memory_bytes() -> int:
    """Return the physical memory of this computer, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
