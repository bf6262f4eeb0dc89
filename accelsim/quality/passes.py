"""A network with kernels in it and the same network in FP32, over the same tokens."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from accelsim.quality.attention import KernelAttention
from accelsim.quality.chosen import ChosenKernels
from accelsim.quality.hook import KernelHook
from accelsim.quality.linear import KernelLinear
from accelsim.quality.predictions import Predictions, compare_predictions
from accelsim.report.report import Report
from accelsim.report.sequence import in_sequence
from accelsim.workload.model.forward import PLAIN, Hooks, final_states
from accelsim.workload.model.language import LanguageModel
from accelsim.workload.model.llama import Array

Progress = Callable[[int, int], None]
"""Takes the layers done and all layers."""


def ignored(_done: int, _total: int) -> None:
    """Take progress and do nothing."""


class Passes:
    """Runs both networks and keeps what the kernels report.

    Kernels enter through the hooks of the forward pass: `KernelAttention` and `KernelLinear`.
    """

    def __init__(
        self, network: LanguageModel, chosen: ChosenKernels, windows: int, progress: Progress
    ) -> None:
        """`windows` is how many will be read, for `progress`."""
        self._weights = network.weights
        self._advance = _counter(2 * network.weights.config.layers * windows, progress)
        self.attention: KernelAttention | None = None
        self.linear: KernelLinear | None = None
        if chosen.attention is not None:
            told = (network.name, chosen.linear)
            self.attention = KernelAttention(chosen.attention, chosen.dtype, *told)
        if chosen.linear is not None:
            head_dim = network.weights.config.head_dim
            self.linear = KernelLinear(chosen.linear, chosen.dtype, network.name, head_dim)

    def read(self, ids: Sequence[int], last: int | None = None) -> Predictions:
        """Predict all tokens of a window but the first, or only the last few of them."""
        inputs, targets = ids[:-1], ids[1:]
        rows = slice(0 if last is None else len(targets) - last, None)
        fp32_states = self._states(inputs, PLAIN)
        hooks = Hooks(self.linear or PLAIN.linear, self.attention or PLAIN.attention)
        # A kernel may overflow its formats: what is not finite is counted, not warned about.
        with np.errstate(over="ignore", invalid="ignore"):
            states = self._states(inputs, hooks)
            return compare_predictions(
                self._weights, states[rows], fp32_states[rows], targets[rows]
            )

    @property
    def nonfinite_outputs(self) -> int:
        """Elements of the kernels' outputs that are infinite or NaN."""
        return sum(hook.nonfinite_outputs for hook in self._hooks)

    def costs(self, workload: str) -> dict[str, Report | None]:
        """Return `attention` and `linears`: a report of all layers and windows in sequence."""
        return {
            "attention": _combined(self.attention, workload),
            "linears": _combined(self.linear, workload),
        }

    @property
    def _hooks(self) -> Iterator[KernelHook]:
        yield from (hook for hook in (self.attention, self.linear) if hook is not None)

    def _states(self, ids: Sequence[int], hooks: Hooks) -> Array:
        def attention(layer: int, q: Array, k: Array, v: Array) -> Array:
            output = hooks.attention(layer, q, k, v)
            self._advance()
            return output

        return final_states(self._weights, ids, Hooks(hooks.linear, attention))


def _counter(total: int, progress: Progress) -> Callable[[], None]:
    progress(0, total)
    done = count(1)
    return lambda: progress(next(done), total)


def _combined(hook: KernelHook | None, workload: str) -> Report | None:
    """Return one report for all layers and windows, which run one after the other."""
    if hook is None:
        return None
    total = in_sequence(hook.reports, workload, hook.run.settings)
    statistics = _mean([report.statistics for report in hook.reports], hook.rows)
    return replace(total, statistics=statistics)


def _mean(statistics: Sequence[Mapping[str, float]], rows: Iterable[int]) -> dict[str, float]:
    """Return the mean of every statistic over all rows."""
    names, weights = statistics[0], list(rows)
    return {
        name: float(np.average([each[name] for each in statistics], weights=weights))
        for name in names
    }
