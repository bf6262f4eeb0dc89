"""Banked memories drawn at random: small, so that rows conflict and refreshes fall into a run."""

from hypothesis import strategies as st

from accelsim.hardware.dram import ControllerSpec, DramSpec
from accelsim.hardware.hbm import BankedHbmSpec

TIMING = {
    "t_ck": 1e-9,
    "burst": 2,
    "t_cl": 7,
    "t_cwl": 3,
    "t_rcd_read": 7,
    "t_rcd_write": 6,
    "t_rp": 7,
    "t_ras": 17,
    "t_rc": 24,
    "t_ccd_s": 2,
    "t_ccd_l": 4,
    "t_ccd_r": 3,
    "t_rrd_s": 2,
    "t_rrd_l": 3,
    "t_faw": 12,
    "t_rtp": 3,
    "t_wr": 8,
    "t_wtr_s": 3,
    "t_wtr_l": 4,
    "t_rtw": 8,
    "t_ppd": 0,
    "t_refi": 300,
    "t_rfc": 40,
    "t_rfc_bank": 20,
    "activate_width": 2,
    "precharge_width": 1,
}
SHAPE = {
    "channels": 2,
    "pseudo_channels": 2,
    "ranks": 1,
    "bank_groups": 2,
    "banks": 2,
    "rows": 8,
    "columns": 4,
    "burst": 16,
}
ENERGY = {"activate": 100, "read": 20, "write": 22, "refresh": 1000, "standby": 0.01}
MAPPINGS = [
    ("row", "bank", "bank_group", "rank", "channel", "pseudo_channel", "column"),
    ("row", "bank", "rank", "column", "bank_group", "pseudo_channel", "channel"),
    (
        "row:1",
        "bank",
        "column",
        "rank",
        "bank_group",
        "row",
        "channel",
        "pseudo_channel",
        "column:1",
    ),
    ("channel", "row", "bank", "rank", "column", "pseudo_channel", "bank_group"),
]
HASHED = ("bank", "bank_group", "rank", "pseudo_channel", "channel")


def device_of(shape=None, timing=None):
    """Return a small DRAM with other values of its shape or timing."""
    return DramSpec.model_validate(
        {
            "name": "hbm2",
            "shape": SHAPE | (shape or {}),
            "timing": TIMING | (timing or {}),
            "energy": ENERGY,
        }
    )


def banked_hbm(*, device=None, latency_s=2e-9, **fields):
    """Return the spec of a banked memory of one stack of `device`."""
    return BankedHbmSpec(
        **{
            "kind": "banked",
            "standard": "hbm2",
            "device": device or device_of(),
            "stacks": 1,
            "mapping": MAPPINGS[0],
            "latency": latency_s,
            **fields,
        }
    )


controllers = st.builds(
    ControllerSpec,
    window=st.integers(1, 9),
    write_window=st.integers(1, 9),
    drain_above=st.floats(0.5, 1),
    drain_below=st.floats(0, 0.5),
    max_row_hits=st.sampled_from([0, 1, 4]),
)
shapes = st.fixed_dictionaries(
    {
        "channels": st.integers(1, 3),
        "pseudo_channels": st.sampled_from([1, 2]),
        "ranks": st.sampled_from([1, 2, 3]),
        "bank_groups": st.sampled_from([1, 4]),
        "columns": st.sampled_from([1, 8]),
    }
)
timings = st.fixed_dictionaries(
    {
        "t_ck": st.sampled_from([1e-9, 0.7e-9, 3e-9]),
        "activate_width": st.sampled_from([1, 1.5, 2]),
        "precharge_width": st.sampled_from([0.5, 1]),
        "t_ppd": st.sampled_from([0, 2]),
    }
)


@st.composite
def banked_hbms(draw, **fixed):
    """Return a strategy of banked memories; `fixed` are fields that are not drawn."""
    shape = draw(shapes)
    # The mappings that split a field need it to have that many bits.
    mapping = draw(st.sampled_from(MAPPINGS[:2] if shape["columns"] == 1 else MAPPINGS))
    drawn = {
        "device": device_of(shape, draw(timings)),
        "stacks": draw(st.integers(1, 2)),
        "mapping": mapping,
        "hashed": draw(st.sampled_from([(), HASHED, ("bank", "channel")])),
        "page": draw(st.sampled_from(["open", "closed"])),
        "refresh": draw(st.sampled_from(["all_bank", "per_bank"])),
        "controller": draw(controllers),
        "detail": draw(st.sampled_from(["bursts", "commands"])),
        "latency_s": draw(st.sampled_from([1e-9, 20e-9])),
    }
    return banked_hbm(**(drawn | fixed))
