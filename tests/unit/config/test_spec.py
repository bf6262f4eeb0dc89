"""Quantities inside specs: units are required of what a user typed, not of Python code."""

import pytest
from pydantic import ValidationError

from accelsim.config.spec import UNITS_REQUIRED, Bytes, Hertz, Seconds, Spec


class Memory(Spec):
    """A spec with three kinds of quantities."""

    capacity: Bytes
    """Size, in bytes."""
    clock: Hertz = 1e9
    """Frequency, in hertz."""
    latency: Seconds = 0.0
    """Delay, in seconds."""


def test_python_code_may_pass_bare_numbers():
    memory = Memory(capacity=4096, clock=2e9)
    assert (memory.capacity, memory.clock) == (4096, 2e9)


def test_text_carries_its_unit():
    memory = Memory(capacity="0.5 KiB", clock="2 GHz", latency="3 ns")  # type: ignore[arg-type]
    assert (memory.capacity, memory.clock, memory.latency) == (512, 2e9, pytest.approx(3e-9))


@pytest.mark.parametrize("bare", [4096, 4096.0, "4096"])
def test_a_user_may_not_leave_the_unit_out(bare):
    with pytest.raises(ValidationError, match=r"found '4096.*', a number without a unit; allowed"):
        Memory.model_validate({"capacity": bare}, context=UNITS_REQUIRED)


@pytest.mark.parametrize("capacity", [0, -1, "0 B", "-4 KiB", "0.1 B"])
def test_a_capacity_is_positive(capacity):
    with pytest.raises(ValidationError, match="greater than 0"):
        Memory(capacity=capacity)


@pytest.mark.parametrize("clock", [float("nan"), float("inf"), "nan GHz", "1e400 Hz"])
def test_a_frequency_is_finite(clock):
    with pytest.raises(ValidationError, match="finite"):
        Memory(capacity=1, clock=clock)


def test_specs_are_frozen_and_know_their_keys():
    with pytest.raises(ValidationError, match="frozen"):
        Memory(capacity=1).capacity = 2
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Memory.model_validate({"capacity": 1, "size": 2})
