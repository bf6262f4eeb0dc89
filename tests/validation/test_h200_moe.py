"""Models with experts on the H200: what rows say of loads, and rows that tests can afford."""

import pytest

from accelsim.accounts.power import CLOSE
from accelsim.bench import Bench
from accelsim.errors import AccelsimError, ConfigError, WorkloadError
from accelsim.inference.cost import sustained
from accelsim.loading import load_machine
from accelsim.models.expert_load import Balanced, Counted, Uniform, Zipf
from accelsim.models.loading import load_architecture
from accelsim.numerics.formats import Format
from accelsim.validation.h200_moe import REFERENCE, MoeRow, load_of, of_the_fastest, predict
from accelsim.validation.skewed_counts import skewed_counts
from accelsim.validation.table import read_rows
from accelsim.workload.problem import GroupedGemmProblem

STEP = {
    "line": 2,
    "model": "qwen3_30b_a3b",
    "phase": "decode",
    "batch": 8,
    "prompt_tokens": 1,
    "context": 1024,
    "chunk_tokens": 0,
    "chunk_prior": 0,
    "routing": "router",
    "time_us": 1.0,
}


def rows():
    return of_the_fastest(read_rows(REFERENCE.shipped_file, MoeRow))


def part_of(name):
    return load_architecture(name).layers[0].feed_forward


def test_kinds_and_rows_are_those_of_the_file():
    every = read_rows(REFERENCE.shipped_file, MoeRow)
    assert len(every) == 167 + 542
    assert {row.phase for row in rows()} == {"decode", "prefill", "mixed", "grouped_gemm"}
    assert len(every) - len(rows()) == 7
    for name in {row.name for row in every}:
        assert part_of(name).experts in (8, 32, 128)


@pytest.mark.parametrize(
    ("routing", "load"),
    [
        ("uniform", Uniform()),
        ("zipf", Zipf()),
        ("balanced", Balanced()),
        ("spread_16", Balanced(16)),
    ],
)
def test_forced_loads_are_known(routing, load):
    row = MoeRow(**STEP | {"routing": routing})
    assert load_of(row, part_of("qwen3-30b-a3b"), 8) == load


def test_a_router_is_what_was_counted_or_like_what_is_told():
    part = part_of("mixtral-8x7b")
    counted = MoeRow(**STEP | {"sorted_counts": "4;3;1;0;0;0;0;0"})
    assert load_of(counted, part, 4) == Counted((4.0, 3.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    told = MoeRow(**STEP | {"experts_touched_mean": 5.5, "largest_share_mean": 0.3})
    counts = load_of(told, part, 8).counts
    assert sum(counts) == pytest.approx(16)
    assert counts[0] == pytest.approx(0.3 * 16, rel=1e-3)
    nothing = MoeRow(**STEP)
    assert load_of(nothing, part, 8) == Uniform()
    assert load_of(MoeRow(**STEP | {"routing": "router_zipf"}), part, 8) == Zipf()


@pytest.mark.parametrize(
    ("touched", "share", "total", "experts"), [(51.7, 0.1, 64, 128), (7.9, 0.3, 1024, 8)]
)
def test_skewed_counts_have_what_is_told_of_them(touched, share, total, experts):
    counts = skewed_counts(touched, share, total, experts)
    assert sum(counts) == pytest.approx(total)
    assert counts[0] == pytest.approx(share * total, rel=1e-2)
    assert list(counts) == sorted(counts, reverse=True)
    assert sum(min(1, each) for each in counts) == pytest.approx(touched, rel=0.02)


def test_more_touched_experts_than_there_are_are_refused():
    with pytest.raises(WorkloadError) as caught:
        skewed_counts(9, 0.2, 64, 8)
    assert str(caught.value) == "experts_touched_mean: found 9, allowed: 1 to 8, the experts"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("routing,time_us\nuniform,3", "found no model, which every row needs"),
        (
            "model,phase,routing,time_us\nmixtral_8x7b,decode,uniform,3",
            "found no batch, which a row of kind decode needs",
        ),
        (
            "model,routing,time_us,gemm,tokens\nmixtral_8x7b,uniform,3,down,2",
            "found no top_k, which a row of kind grouped_gemm needs",
        ),
        (
            "model,routing,time_us\nmixtral_8x7b,unifrom,3",
            "found routing 'unifrom', allowed: uniform, zipf, balanced, spread_<experts>, router, "
            "router_zipf",
        ),
    ],
)
def test_rows_that_lack_something_say_what(columns, message, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(columns)
    with pytest.raises(ConfigError) as caught:
        read_rows(path, MoeRow)
    assert str(caught.value) == f"{path}:2: {message}"


def test_a_histogram_of_another_model_is_refused():
    row = MoeRow(**STEP | {"sorted_counts": "4;3;1"})
    with pytest.raises(AccelsimError, match="found a histogram of 3 experts, allowed: 128"):
        predict(row, load_machine("h200-sxm"))


def test_products_of_experts_alone_are_near():
    """Of 8 tokens, spread over 2 to 8 experts, which do not fill the chip."""
    machine = load_machine("h200-sxm")
    chosen = [
        row
        for row in rows()
        if row.phase == "grouped_gemm" and row.name == "qwen3_30b_a3b"
        if row.routing in ("spread_2", "spread_4", "spread_8") and row.tokens == 8
    ]
    errors = [100 * abs(predict(row, machine) / REFERENCE.value_of(row) - 1) for row in chosen]
    assert len(errors) >= 6
    assert sum(errors) / len(errors) < 15


@pytest.mark.parametrize("routing", ["balanced", "uniform"])
@pytest.mark.parametrize(
    "gemm",
    [
        "gate_up",
        pytest.param(
            "down",
            marks=pytest.mark.xfail(
                strict=True,
                reason="14 to 17 % too fast: a depth of 768 at a low clock (docs/h200.md)",
            ),
        ),
    ],
)
def test_products_that_read_and_multiply_at_once_take_the_time_of_their_joules(gemm, routing):
    """About 128 rows an expert: the cap decides their time, also below the clocks seen so far."""
    row = next(
        row
        for row in rows()
        if (row.phase, row.name, row.tokens) == ("grouped_gemm", "qwen3_30b_a3b", 2048)
        if (row.gemm, row.routing, row.repeat) == (gemm, routing, 0)
    )
    error = predict(row, load_machine("h200-sxm")) / REFERENCE.value_of(row) - 1
    assert abs(error) < 0.12


def test_the_cap_is_met_where_the_memory_and_the_matrix_units_are_busy_at_once():
    machine = sustained(load_machine("h200-sxm"))
    problem = GroupedGemmProblem(
        kind="grouped_gemm", name="experts", rows=(128,) * 128, n=1536, k=2048, dtype=Format.BF16
    )
    report, _ = Bench(machine).execute(problem)
    assert report.power_cap == "met"
    assert report.energy_j / report.time_s == pytest.approx(machine.power.cap, rel=CLOSE)


def test_a_decode_step_is_near():
    row = next(
        row
        for row in rows()
        if (row.name, row.phase, row.routing) == ("qwen3_30b_a3b", "decode", "balanced")
        and row.batch == 1
    )
    error = predict(row, load_machine("h200-sxm")) / REFERENCE.value_of(row) - 1
    assert abs(error) < 0.08


def test_loads_have_as_many_experts_as_the_mean_layer_of_a_row():
    """A mean of sorted counts has rows for all experts that any layer touches."""
    counted = [row for row in rows() if row.sorted_counts and row.phase != "grouped_gemm"]
    assert len(counted) > 20
    for row in counted:
        part = part_of(row.name)
        tokens = row.batch * row.prompt_tokens + row.chunk_tokens
        load = load_of(row, part, tokens).loads(tokens, part.experts, part.experts_per_token, 20)
        touched = sum(sum(1 for each in rows_of if each) for rows_of in load) / len(load)
        assert touched == pytest.approx(row.experts_touched_mean, rel=0.05, abs=0.6), row
        assert {sum(each) for each in load} == {tokens * part.experts_per_token}
