"""What a model's heads were seen to weigh: sums of the law of `power_law`, in a file.

`accelsim thresholds` fills them while a model reads texts, so that a generation need not begin with
a warm-up, and each step has the law of its own layer and head.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from accelsim.errors import FILE_ERRORS, ShortageError, WorkloadError, is_refusal, reason_of
from accelsim.kernels.attention.decode.power_law import NUM_SUMS
from accelsim.kernels.files import find_parameter_file
from accelsim.quantization.calibration import SampledText, Sampling
from accelsim.version import VERSION
from accelsim.workload.archives import read_arrays, write_safetensors
from accelsim.workload.safetensors_file import read_header, read_metadata
from accelsim.workload.tensors import Reader

ENDING = ".safetensors"
_KEY, _SUMS = "accelsim thresholds", "sums"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where thresholds come from."""

    model: str
    """Name of the model."""
    texts: tuple[SampledText, ...]
    sampling: Sampling
    taus: tuple[float, ...]
    """Quantiles that were observed."""
    every: int
    """Tokens from one observed row of a window to the next."""
    fit_from: int
    """Shortest context that was observed."""
    version: str = VERSION
    """Version of accelsim that made them."""


_ORIGIN = TypeAdapter(Origin)


@dataclass(frozen=True, slots=True, eq=False)
class Thresholds:
    """Sums of the laws of all heads of a model."""

    origin: Origin
    sums: NDArray[np.float64]
    """[taus, layers, q_heads, NUM_SUMS]"""

    def of_layer(self, tau: float, reader: Reader | None, heads: int) -> NDArray[np.float64]:
        """Return the sums [q_heads, NUM_SUMS] of the layer whose output the reader reads.

        Raises WorkloadError for tensors of no model, of another one, or a tau that is not there.
        """
        if reader is None:
            raise WorkloadError(
                "thresholds are of the layers of a model, found tensors from elsewhere; "
                "allowed: `accelsim quality`, `accelsim needle` and `accelsim generate`"
            )
        if reader.model != self.origin.model:
            raise WorkloadError(
                f"the thresholds are of model '{self.origin.model}', "
                f"found {reader.linear} of model '{reader.model}'"
            )
        if tau not in self.origin.taus:
            known = ", ".join(f"{each:g}" for each in self.origin.taus)
            raise WorkloadError(f"tau: found {tau:g}, the thresholds have {known}")
        layer = int(reader.linear.partition(".")[0].removeprefix("layer"))
        own: NDArray[np.float64] = self.sums[self.origin.taus.index(tau)]
        if layer >= len(own) or own.shape[1] != heads:
            raise WorkloadError(
                f"{reader.linear}: the thresholds have {len(own)} layers of {own.shape[1]} heads, "
                f"found layer {layer} of {heads} heads"
            )
        return own[layer]


def save_thresholds(thresholds: Thresholds, path: Path) -> None:
    """Write a file. Raises WorkloadError for another ending, OutputError if it cannot."""
    check_thresholds_path(path)
    origin = _ORIGIN.dump_json(thresholds.origin).decode()
    write_safetensors(path, {_SUMS: thresholds.sums}, {_KEY: origin})


def check_thresholds_path(path: Path) -> None:
    """Raise WorkloadError unless the name ends as that of such a file does."""
    if path.suffix != ENDING:
        raise WorkloadError(f"{path}: found the ending '{path.suffix}', allowed: {ENDING}")


def load_thresholds(named: Path) -> Thresholds:
    """Return the thresholds of a file that a parameter names; raises an AccelsimError.

    The last files stay in memory, because every layer of a model asks for its own.
    """
    path = find_parameter_file(named)
    check_thresholds_path(path)
    try:
        status = path.stat()
    except FILE_ERRORS as error:
        kind = ShortageError if is_refusal(error) else WorkloadError
        raise kind(f"{path}: cannot be read ({reason_of(error)})") from error
    return _load(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _load(path: Path, _modified_ns: int, _size_bytes: int) -> Thresholds:
    try:
        shapes = {name: (entry.shape,) for name, entry in read_header(path).items()}
        metadata = read_metadata(path)
    except (ValueError, OSError) as damage:
        kind = ShortageError if is_refusal(damage) else WorkloadError
        raise kind(f"{path}: damaged or not a safetensors file ({damage})") from damage
    if _KEY not in metadata or set(shapes) != {_SUMS}:
        raise WorkloadError(
            f"{path}: found no thresholds; allowed: what `accelsim thresholds` wrote"
        )
    try:
        origin = _ORIGIN.validate_json(metadata[_KEY])
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise WorkloadError(f"{path}: its origin is damaged ({reason})") from error
    sums = read_arrays(path, shapes)[_SUMS]
    is_whole = sums.ndim == 4 and len(sums) == len(origin.taus) and sums.shape[3] == NUM_SUMS
    if not is_whole or sums.dtype != np.float64 or not np.isfinite(sums).all():
        raise WorkloadError(
            f"{path}: found sums of shape {list(sums.shape)} in {sums.dtype}, allowed: "
            f"[{len(origin.taus)}, layers, heads, {NUM_SUMS}] in float64, all finite"
        )
    return Thresholds(origin, sums)
