"""One compiled function out of one for each unit."""

import os
import subprocess
import sys

import numpy as np

from accelsim.hardware.machine import UNITS
from accelsim.hardware.units.dispatch import by_unit
from accelsim.program.ops import Unit
from accelsim.runtime.jit import jit, jit_inner


@jit_inner
def _plus(op, shape, row):
    row[0] += op + shape


@jit_inner
def _times(op, shape, row):
    row[0] += op * shape


_call = by_unit([_plus, _times], "rows")


@jit
def _called(unit, rows):
    _call(unit, 10, (1, 2), rows)


def test_every_unit_has_a_model():
    assert sorted(model.unit for model in UNITS) == list(Unit)


def test_a_unit_gets_its_own_function_shape_and_row():
    rows = np.zeros((2, 1), np.int64)
    _called(0, rows)
    assert rows.tolist() == [[11], [0]]
    _called(1, rows)
    assert rows.tolist() == [[11], [20]]


SCRIPT = """
from accelsim.hardware.units.dispatch import by_unit
from accelsim.runtime.jit import jit, jit_inner

@jit_inner
def same(op, shape):
    return op + shape

call = by_unit([same, same])

@jit
def run(unit):
    return call(unit, 1, (1, 2)) + {more}

print(run(1))
"""


def test_another_caller_finds_the_chain_in_the_cache(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    for more in (0, 4):
        command = [sys.executable, "-c", SCRIPT.format(more=more)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{3 + more}\n"
