"""A sample of an inference: near the whole one, with its interval, and refused where it tells
nothing."""

from io import StringIO

import pytest

from accelsim.errors import SampleError
from accelsim.inference.request import infer
from accelsim.inference.system import System
from accelsim.report.measured import UNSEEN_TRAFFIC

MODEL = "smollm2-135m"
PROMPT = 2048
FEW_CORES = {"machine.cores": 2}
"""A core has many items, as those of long programs have."""


@pytest.mark.parametrize("output", [1, 2])
def test_a_sample_is_near_the_whole_and_says_how_near(output):
    whole = infer(MODEL, System("ascend-910b", settings=FEW_CORES), prompt=PROMPT, output=output)
    sampled = infer(
        MODEL, System("ascend-910b", settings=FEW_CORES), prompt=PROMPT, output=output, sample="0.2"
    )
    assert whole.sampling_error == 0
    assert whole.sampling_note == ""
    assert 0 < sampled.sampling_error < 0.1
    assert sampled.sampling_note == UNSEEN_TRAFFIC
    assert sampled.time_s != whole.time_s
    assert abs(sampled.time_s - whole.time_s) <= sampled.sampling_error * sampled.time_s
    assert sampled.to_dict()["sampling_error"] == sampled.to_row()["sampling_error"]


def test_steps_between_those_that_are_simulated_are_off_as_these_are():
    found = infer(MODEL, "ascend-910b", prompt=300, output=40, steps="interpolated", sample="auto")
    assert found.sampling_error == 0
    assert found.generation.off_s == 0


def test_the_tables_tell_what_a_sample_tells():
    from rich.console import Console

    console = Console(width=200, file=StringIO())
    console.print(
        infer(MODEL, System("ascend-910b", settings=FEW_CORES), prompt=PROMPT, sample=0.2)
    )
    text = console.file.getvalue()
    assert "in 95 of 100 cases" in text
    assert UNSEEN_TRAFFIC in text


def test_a_clock_that_follows_from_unseen_traffic_is_refused():
    settings = {"machine.power.cap": "35 W", "machine.cores": 2}
    with pytest.raises(
        SampleError,
        match=r"^sample: the power cap of h200-sxm lowers the clock, which follows from traffic "
        r"that a sample of .* does not estimate behind an L2; allowed: never$",
    ):
        infer(MODEL, System("h200", settings=settings), prompt=PROMPT, sample=0.2)


def test_a_sample_that_is_none_is_refused():
    with pytest.raises(SampleError, match="sample: found 2, allowed: auto, never, or the share"):
        infer(MODEL, "ascend-910b", prompt=16, sample=2)
