"""Machines drawn at random: everything that the time of a program depends on."""

from hypothesis import strategies as st

from accelsim.program.ops import VECTOR_OPS
from tests.handmade import cache_of, machine_of
from tests.strategies.memories import banked_hbms

rates = st.sampled_from([0.25, 0.3, 1, 2.5, 7, 16, 33.3, 64])
"""Bytes per cycle, whole and fractional."""
depths = st.integers(0, 20)
in_flight = st.integers(1, 4)
caches = st.builds(
    cache_of,
    sets=st.sampled_from([1, 2, 3]),
    ways=st.integers(1, 4),
    sectors=st.sampled_from([1, 2, 4]),
    sector_bytes=st.sampled_from([1, 8, 32]),
    slices=st.integers(1, 3),
    bytes_per_cycle=rates,
    latency_cycles=st.integers(1, 30),
    writes=st.sampled_from(["back", "through"]),
)
"""Caches small enough that the programs evict."""
costs = st.fixed_dictionaries(
    {},
    optional={op.name.lower(): st.sampled_from([0.5, 1.5, 4]) for op in VECTOR_OPS},
)
arrays = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 4),
        "cols": st.integers(1, 4),
        "dataflow": st.sampled_from(["output_stationary", "weight_stationary", "input_stationary"]),
        "overlap_folds": st.booleans(),
    }
)


def machines(**fixed):
    """Return a strategy of machines; `fixed` replaces the strategies of single arguments."""
    drawn = {
        "cores": st.integers(1, 5),
        "items_in_flight": st.sampled_from([1, 2]),
        "placement": st.sampled_from(["greedy", "static"]),
        "tile": st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
        "cube_rates": st.fixed_dictionaries({"fp16": st.sampled_from([0.25, 1, 3])}),
        "cube_depth_cycles": depths,
        "systolic": st.none() | arrays,
        "int_mac": st.tuples(st.integers(1, 5), st.integers(1, 5), depths),
        "lanes": st.fixed_dictionaries({"fp16": st.integers(1, 8)}),
        "vector_depth_cycles": depths,
        "issue_cycles": st.integers(0, 5),
        "costs": costs,
        "scratchpad_bytes_per_cycle": rates,
        "accumulator_bytes_per_cycle": rates,
        "load_bytes_per_cycle": rates,
        "load_in_flight": in_flight,
        "store_bytes_per_cycle": rates,
        "store_in_flight": in_flight,
        "hbm_bytes_per_cycle": rates,
        "channels": st.integers(1, 5),
        "latency_cycles": st.integers(1, 60),
        "cube_issue_cycles": st.integers(0, 5),
        "cube_setup_cycles": st.integers(0, 30),
        "launch_cycles": st.integers(0, 40),
        "l2": st.none(),
        "interleave_bytes": st.sampled_from([1, 3, 8, 32, 33, 100]),
    }
    return st.builds(machine_of, **(drawn | fixed))


def banked_machines(**fixed):
    """Return a strategy of machines with a banked HBM, at a clock of 1 GHz."""
    return st.builds(
        lambda machine, hbm: machine.model_copy(update={"clock": 1e9, "hbm": hbm}),
        machines(**fixed),
        banked_hbms(),
    )
