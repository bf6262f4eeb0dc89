"""The public names of accelsim; each is imported when it is first used."""

from accelsim.version import VERSION

TYPE_CHECKING = False  # of typing, which takes long to import
if TYPE_CHECKING:
    from accelsim.exploring.explore import explore
    from accelsim.inference.request import infer
    from accelsim.inference.system import System
    from accelsim.library.kernels import Kernels
    from accelsim.library.recipe import Recipe
    from accelsim.loading import load_machine, load_workload
    from accelsim.models.model import Model
    from accelsim.quality.evaluate import evaluate
    from accelsim.quality.generate import generate
    from accelsim.quality.needle import compare_needles, find_needles
    from accelsim.quality.passages import Reading, Writing
    from accelsim.quality.thresholds import learn_thresholds
    from accelsim.report.report import Report
    from accelsim.simulation import simulate
    from accelsim.sweeps.run import sweep

__version__ = VERSION

__all__ = [
    "Kernels",
    "Model",
    "Reading",
    "Recipe",
    "Report",
    "System",
    "Writing",
    "__version__",
    "compare_needles",
    "evaluate",
    "explore",
    "find_needles",
    "generate",
    "infer",
    "learn_thresholds",
    "load_machine",
    "load_workload",
    "simulate",
    "sweep",
]

_HOMES = {
    "Kernels": "accelsim.library.kernels",
    "Model": "accelsim.models.model",
    "Reading": "accelsim.quality.passages",
    "Recipe": "accelsim.library.recipe",
    "Report": "accelsim.report.report",
    "System": "accelsim.inference.system",
    "Writing": "accelsim.quality.passages",
    "compare_needles": "accelsim.quality.needle",
    "evaluate": "accelsim.quality.evaluate",
    "explore": "accelsim.exploring.explore",
    "find_needles": "accelsim.quality.needle",
    "generate": "accelsim.quality.generate",
    "infer": "accelsim.inference.request",
    "learn_thresholds": "accelsim.quality.thresholds",
    "load_machine": "accelsim.loading",
    "load_workload": "accelsim.loading",
    "simulate": "accelsim.simulation",
    "sweep": "accelsim.sweeps.run",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'accelsim' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted(__all__)
