"""The public names, and that two of them stay callable although they are modules too."""

import sys
from types import ModuleType

import pytest

import accelsim
from accelsim import version


def test_public_names_are_listed():
    assert dir(accelsim) == [
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


def test_version_is_the_one_of_the_build():
    assert accelsim.__version__ == version.VERSION


def test_unknown_attribute():
    with pytest.raises(AttributeError, match=r"^module 'accelsim' has no attribute 'simulat'$"):
        _ = accelsim.simulat


@pytest.fixture
def home(monkeypatch):
    """A stand-in for accelsim.simulate that returns its arguments."""
    module = ModuleType("accelsim.simulation")
    module.simulate = lambda *args, **kwargs: (args, kwargs)
    monkeypatch.setitem(sys.modules, "accelsim.simulation", module)
    before = accelsim.__dict__.pop("simulate", None)
    yield module
    accelsim.__dict__.pop("simulate", None)
    if before is not None:
        accelsim.__dict__["simulate"] = before


def test_a_name_is_imported_when_it_is_used(home):
    assert accelsim.simulate is home.simulate
