"""Joining the parts: where settings go, what is refused, what a layer adds up to."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.accounts.power import CLOSE
from accelsim.bench import ENGINES
from accelsim.config.shipped import known_names
from accelsim.errors import (
    AccelsimError,
    ConfigError,
    DoesNotFitError,
    ShortageError,
    WorkloadError,
)
from accelsim.kernels.registry import kernel_names
from accelsim.library.recipe import Recipe
from accelsim.loading import load_machine, load_workload
from accelsim.simulation import record, simulate

SMALL = {"q_heads": 2, "kv_heads": 1, "head_dim": 16, "q_len": 48, "kv_len": 48, "causal": True}
LONG = {"workload.q_heads": 64, "workload.q_len": 2**17, "workload.kv_len": 2**17}
LONG = {**LONG, "machine.hbm.capacity": "8 GiB"}
"""What makes `attention-2048` a program that is not held."""
NO_FIELD = (
    "no field of machine or workload, allowed: machine.<field>, workload.<field>; "
    "a parameter is written with its kernel"
)


def write_workload(folder, file="w.yaml", **keys):
    lines = [f"{key}: {json.dumps(value)}" for key, value in keys.items()]
    path = folder / file
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def small(tmp_path):
    return write_workload(tmp_path, kind="attention", name="small", **SMALL)


@pytest.fixture
def layer(tmp_path):
    parts = [
        {"kind": "gemm", "name": "qkv", "m": 48, "n": 64, "k": 32, "count": 3},
        {"kind": "attention", "name": "attention", **SMALL},
    ]
    return write_workload(tmp_path, "layer.yaml", kind="layer", name="both", problems=parts)


def refusal(*arguments, **options):
    with pytest.raises(AccelsimError) as error:
        simulate(*arguments, **options)
    return error.value


L2 = (
    "{{capacity: 64 KiB, line: 512 B, sector: 128 B, ways: 16, slices: 1, bandwidth: {}, "
    "latency: {}}}"
)


class TestSettings:
    def test_each_goes_where_its_name_says(self, small):
        settings = {
            "machine.scratchpad.capacity": "64 KiB",
            "machine.cores": 2,
            "workload.q_len": "32",
        }
        report = simulate("edge-npu", small, "flash(tile_q=16)", settings)
        assert report.cores == 2
        assert report.recipe == "flash(tile_q=16)"
        assert report.settings == settings
        # Two heads of 32 rows in tiles of 16, and 16-bit elements of 16 columns.
        assert report.hbm_bytes_by_tensor["q"] == 2 * 32 * 16 * 2
        assert report.scratchpad_peak_bytes <= 64 * 1024

    def test_text_and_plain_values_mean_the_same(self, small):
        text = simulate("edge-npu", small, "flash(tile_q=16)", {"machine.cores": "2"})
        plain = simulate("edge-npu", small, Recipe("flash", tile_q=16), {"machine.cores": 2})
        assert replace(text, settings={}) == replace(plain, settings={})

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"tile_q": 64}, f"--set tile_q: found {NO_FIELD}: flash(tile_q=64)"),
            ({"tile_q": "64"}, f"--set tile_q: found {NO_FIELD}: flash(tile_q=64)"),
            ({"flash.tile_q": "64"}, f"--set flash.tile_q: found {NO_FIELD}: flash(tile_q=64)"),
            ({"dense.tile_q": "64"}, f"--set dense.tile_q: found {NO_FIELD}: dense(tile_q=64)"),
            ({"linear.tile_m": 8}, f"--set linear.tile_m: found {NO_FIELD}: gemm(tile_m=8)"),
            ({"tau": 0.5}, f"--set tau: found {NO_FIELD}: sift(tau=0.5)"),
            ({"path": "a b.npz"}, f'--set path: found {NO_FIELD}: sparse(path="a b.npz")'),
            ({"tile_q": "["}, f"--set tile_q: found {NO_FIELD}: flash(tile_q=[)"),
            ({"machine": "x"}, f"--set machine: found {NO_FIELD}, such as flash(tile_q=128)"),
            ({"tile_qq": 64}, f"--set tile_qq: found {NO_FIELD}, such as flash(tile_q=128)"),
            (
                {"machin.cores": 2},
                "--set machin.cores: found no field of machine or workload, did you mean "
                "'machine'? allowed: machine.<field>, workload.<field>; a parameter is written "
                "with its kernel, such as flash(tile_q=128)",
            ),
            (
                {"machine.cores": "2.0"},
                "--set machine.cores: found 2.0, expected a valid integer",
            ),
            (
                {"machine.cores": 100_000},
                "--set machine.cores: found 100000, expected a value less than or equal to 65536",
            ),
            (
                {"machine.scratchpad.capacity": 512},
                "--set machine.scratchpad.capacity: found '512', a number without a unit; allowed "
                "units: B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB",
            ),
            (
                {"workload.batch": 0},
                "--set workload.batch: found 0, expected a value greater than 0",
            ),
        ],
    )
    def test_a_mistake_names_key_value_and_what_is_allowed(self, small, settings, message):
        assert str(refusal("edge-npu", small, "flash", settings)) == message

    @pytest.mark.parametrize(
        ("recipe", "message"),
        [
            (
                "flash(tile_qq=16)",
                "flash: tile_qq: unknown key, did you mean 'tile_q'?; "
                "allowed: tile_q, tile_k, precision, query_tiles, fold, splits, order, scale_at, "
                "codes, code_groups, code_candidates, code_rotation, code_calibration",
            ),
            ("flash(tile_q=0)", "flash: tile_q: found 0, expected a value greater than 0"),
            ("flash(tile_q=-1)", "flash: tile_q: found -1, expected a value greater than 0"),
            ("flash(tile_q=abc)", "flash: tile_q: found 'abc', expected a valid integer"),
            ("flash(tile_q='64')", "flash: tile_q: found '64', expected a valid integer"),
            ("flash(tile_q=1e9)", "flash: tile_q: found 1000000000.0, expected a valid integer"),
            ("flash(tile_q=true)", "flash: tile_q: found true, expected a valid integer"),
            ("flash(tile_q=[8, 16])", "flash: tile_q: found a list, expected a valid integer"),
            (
                "flash(precision=fp61)",
                "flash: precision: found 'fp61', did you mean 'fp16'?; "
                "allowed: 'fp32', 'fp32_scores', 'fp16_fp32' or 'fp16'",
            ),
        ],
    )
    def test_a_mistake_in_a_recipe_names_kernel_and_parameter(self, small, recipe, message):
        assert str(refusal("edge-npu", small, recipe)) == message

    def test_all_mistakes_of_a_group_are_told_at_once(self, small):
        error = refusal("edge-npu", small, "flash(tile_q=0, tile_k=0)")
        assert isinstance(error, ConfigError)
        assert error.mistakes == [
            "flash: tile_q: found 0, expected a value greater than 0",
            "flash: tile_k: found 0, expected a value greater than 0",
        ]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"machine.cores": 2},
                "machine.cores: the machine is loaded already; override it when loading",
            ),
            (
                {"workload.batch": 2},
                "workload.batch: the workload is loaded already; override it when loading",
            ),
        ],
    )
    def test_what_is_loaded_cannot_be_overridden(self, small, settings, message):
        machine, workload = load_machine("edge-npu"), load_workload(small)
        assert str(refusal(machine, workload, "flash", settings)) == message

    def test_loaded_objects_are_the_same_as_names(self, small):
        loaded = simulate(load_machine("edge-npu"), load_workload(small), "flash")
        assert loaded == simulate("edge-npu", small, "flash")


class TestNames:
    def test_unknown_kernel(self, small):
        assert str(refusal("edge-npu", small, "falsh")) == (
            "unknown kernel 'falsh', did you mean 'flash'?; known: "
            + ", ".join(sorted(kernel_names()))
        )

    def test_unknown_machine(self, small):
        assert str(refusal("edge-nup", small, "flash")) == (
            "unknown machine 'edge-nup', did you mean 'edge-npu'?; known: "
            + ", ".join(known_names("machine"))
        )

    def test_unknown_engine(self, small):
        assert str(refusal("edge-npu", small, "flash", engine="fast")) == (
            "unknown engine 'fast'; known: compiled, reference"
        )

    def test_a_kernel_for_other_problems(self, small):
        assert str(refusal("edge-npu", small, "gemm")) == (
            "kernel gemm is for gemm problems, but workload small is attention"
        )

    def test_a_layer_without_work_for_the_kernel(self, tmp_path):
        part = {"kind": "gemm", "name": "g", "m": 4, "n": 4, "k": 4}
        path = write_workload(tmp_path, kind="layer", name="l", problems=[part])
        assert str(refusal("edge-npu", path, "flash")) == (
            "kernel flash is for attention problems, but workload l is gemm"
        )


class TestMachinesThatCannotRunIt:
    def test_a_scratchpad_that_holds_no_tile(self, small):
        settings = {"machine.scratchpad.capacity": "4 KiB"}
        error = refusal("edge-npu", small, "flash", settings)
        assert isinstance(error, DoesNotFitError)
        assert str(error) == (
            "flash on small does not fit the scratchpad of machine edge-npu: it needs 9024 B, "
            "4096 B (4 KiB) are there; buffers: scores 2 x 16x16 = 1024 B, x 1 x 16x16 = 1024 B, "
            "output 1 x 16x16 = 1024 B, q 2 x 16x16 = 1024 B, k 2 x 16x16 = 1024 B, "
            "v 2 x 16x16 = 1024 B, weights 2 x 16x16 = 1024 B, product 1 x 16x16 = 1024 B, "
            "stored 1 x 16x16 = 512 B, row_max 2 x 16x1 = 128 B, row_sum 1 x 16x1 = 64 B, "
            "tile_sum 1 x 16x1 = 64 B, rescale 1 x 16x1 = 64 B; "
            "choose smaller tiles or a larger scratchpad"
        )

    def test_an_accumulator_that_holds_no_tile(self):
        recipe, settings = "gemm(tile_m=64, tile_n=64)", {"machine.accumulator.capacity": "8 KiB"}
        assert str(refusal("edge-npu", "gemm-1024", recipe, settings)) == (
            "gemm on gemm-1024 does not fit the accumulator of machine edge-npu: it needs 16384 B, "
            "8192 B (8 KiB) are there; buffers: acc 1 x 64x64 = 16384 B; "
            "choose smaller tiles or a larger accumulator"
        )

    def test_a_unit_without_the_format(self, small):
        assert str(refusal("edge-npu", small, "flash", {"workload.dtype": "fp8_e4m3"})) == (
            "machine edge-npu: its cube unit has no fp8_e4m3, which flash on small uses; "
            "it has fp32, bf16, fp16, int8, int4"
        )

    def test_more_ops_or_items_than_a_program_may_have(self):
        for recipe, settings, what in (
            ("flash", {"workload.q_len": 2**30}, "blocks of query rows in a head, the most it"),
            ("flash(tile_k=1)", {"workload.kv_len": 2**31 - 1}, "ops, the most a program"),
            ("flash", {"workload.q_heads": 2**28}, "work items, the most a program"),
        ):
            roomy = {**settings, "machine.hbm.capacity": "1024 TiB"}
            most = {"ops": 2**36, "work": 2**25, "blocks": 2**19}[what.split()[0].strip(",")]
            assert str(refusal("edge-npu", "attention-2048", recipe, roomy)) == (
                f"flash on attention-2048: needs more than {most} {what} may have; "
                f"choose larger tiles or a smaller problem"
            )

    @pytest.mark.parametrize(
        ("options", "purpose"),
        [
            ({"timeline": True}, "a timeline"),
            ({"engine": "reference"}, "the reference engine"),
        ],
    )
    def test_what_needs_all_ops_of_a_long_program(self, options, purpose):
        assert str(refusal("edge-npu", "attention-2048", "flash", LONG, **options)) == (
            f"flash on attention-2048: has more than {2**25} ops, and {purpose} needs all of them "
            f"at once, more than 6.7 GB; choose larger tiles or a smaller problem"
        )

    def test_a_long_program_is_not_printed(self):
        with pytest.raises(DoesNotFitError, match="a printed program needs all of them at once"):
            record("edge-npu", "attention-2048", "flash", LONG)

    def test_a_long_program_is_not_joined_to_others(self, tmp_path):
        part = {"kind": "gemm", "name": "up", "m": 2**15, "n": 2**15, "k": 2**13}
        layer = write_workload(tmp_path, kind="layer", name="long", problems=[part])
        recipe = "gemm(tile_m=16, tile_n=16, tile_k=512)"
        message = str(refusal("edge-npu", layer, recipe, one_program=True))
        assert "one program of all parts needs all of them at once" in message

    @pytest.mark.parametrize(
        ("setting", "found"),
        [
            ({"machine.hbm.bandwidth": "1 B/s"}, "one transfer would take 1.54e+12"),
            ({"machine.l2": L2.format("1 B/s", "1 ns")}, "one transfer would take 1.54e+12"),
            ({"machine.l2": L2.format("1 TB/s", "1000 s")}, "all ops one after the other would"),
            ({"machine.hbm.latency": "1000 s"}, "all ops one after the other would take"),
        ],
    )
    def test_rates_beyond_what_the_engines_can_count(self, small, setting, found):
        message = str(refusal("edge-npu", small, "flash", setting))
        assert message.startswith(
            f"flash on small is too slow to simulate on machine edge-npu: {found}"
        )
        assert message.endswith("look for a rate, a latency or a clock with the wrong unit")

    def test_the_slowest_run_that_is_counted_is_counted_right(self, small):
        slow = {"machine.hbm.bandwidth": "1 kB/s"}
        report = simulate("edge-npu", small, "flash", slow)
        moved_bytes = report.hbm_read_bytes + report.hbm_write_bytes
        # Nothing but the memory takes time: 10^6 cycles a byte.
        assert report.cycles == pytest.approx(moved_bytes * 10**6, rel=1e-3)
        assert report.bound_by == "hbm"

    def test_too_little_memory_is_said(self, small, monkeypatch):
        monkeypatch.setattr("accelsim.simulation.load_counted_tensors", _fails_for_lack_of_memory)
        error = refusal("edge-npu", small, "flash")
        assert type(error) is ShortageError
        assert str(error) == (
            "kernel flash: this computer has too little memory free (Unable to allocate 9 TiB); "
            "choose a smaller problem, or one without tensors"
        )


def _fails_for_lack_of_memory(*_):
    raise MemoryError("Unable to allocate 9 TiB")


class TestLayers:
    def test_sums_equal_their_parts(self, layer):
        report = simulate("edge-npu", layer, "flash")
        gemm, attention = report.parts
        assert (gemm.kernel, attention.kernel) == ("gemm", "flash")
        for name in ("cycles", "ops", "macs", "hbm_read_bytes", "hbm_write_bytes"):
            assert getattr(report, name) == 3 * getattr(gemm, name) + getattr(attention, name)
        for name in ("time_s", "energy_j"):
            total = 3 * getattr(gemm, name) + getattr(attention, name)
            assert getattr(report, name) == pytest.approx(total, rel=1e-12)
        assert report.hbm_bytes_by_tensor["a"] == 3 * gemm.hbm_bytes_by_tensor["a"]
        assert report.hbm_bytes_by_tensor["q"] == attention.hbm_bytes_by_tensor["q"]
        assert sum(report.hbm_bytes_by_tensor.values()) == (
            report.hbm_read_bytes + report.hbm_write_bytes
        )
        cube = report.units["cube"]
        assert cube.busy_cycles == 3 * gemm.units["cube"].busy_cycles + (
            attention.units["cube"].busy_cycles
        )
        assert cube.utilization == pytest.approx(cube.busy_cycles / report.cycles)
        assert report.accuracy is None

    def test_parts_of_the_kernels_kind_take_its_parameters(self, layer):
        report = simulate("edge-npu", layer, "flash(tile_q=16)")
        coarse = simulate("edge-npu", layer, "flash(tile_q=48)")
        assert report.recipe == "gemm, flash(tile_q=16)"
        assert (report.kernel, report.library) == ("gemm, flash", "npu")
        assert report.parts[0].cycles == coarse.parts[0].cycles
        assert report.parts[1].ops > coarse.parts[1].ops


TWICE = {"kind": "gemm", "name": "up", "m": 64, "n": 512, "k": 512, "count": 2}
"""A product whose operands fit the L2 of ascend-910b many times over."""
EAGER = {"kind": "vector", "name": "norm", "function": "rmsnorm", "rows": 64, "cols": 512}


class TestOneProgram:
    """A layer as one program: one schedule, in which parts find what those before them left."""

    @pytest.mark.parametrize("machine", ["edge-npu", "ascend-910b-no-l2"])
    def test_takes_as_long_as_its_parts_where_nothing_carries_over(self, layer, machine):
        total = simulate(machine, layer, "flash")
        one = simulate(machine, layer, "flash", one_program=True, with_parts=True)
        # A phase begins a launch after all before it have ended, the first phase of a run too.
        for name in ("cycles", "ops", "macs", "hbm_read_bytes", "hbm_write_bytes", "l2"):
            assert getattr(one, name) == getattr(total, name), name
        assert one.energy_j == pytest.approx(total.energy_j, rel=1e-12)
        assert one.scratchpad_peak_bytes == total.scratchpad_peak_bytes
        assert one.scratchpad_held_peak_bytes == total.scratchpad_held_peak_bytes
        assert one.parts == total.parts
        assert (one.kernel, one.recipe, one.library) == ("gemm, flash", "gemm, flash", "npu")

    def test_says_that_it_is_one(self, layer):
        total, one = (
            simulate("edge-npu", layer, "flash", one_program=each) for each in (False, True)
        )
        assert (total.one_program, one.one_program) == (False, True)
        assert "one_program" not in total.to_dict()
        assert one.to_dict()["one_program"] is True

    def test_counts_the_inputs_of_equal_parts_once(self, layer):
        total, one = (
            simulate("edge-npu", layer, "flash", one_program=each) for each in (False, True)
        )
        inputs = 48 * 32 * 2 + 32 * 64 * 2
        assert total.compulsory_bytes - one.compulsory_bytes == 2 * inputs
        assert one.hbm_bytes_by_tensor["0.qkv.b"] == total.hbm_bytes_by_tensor["b"]
        assert one.hbm_bytes_by_tensor["0.qkv[2].c"] == 48 * 64 * 2
        assert one.hbm_bytes_by_tensor["1.attention.q"] == total.hbm_bytes_by_tensor["q"]

    def test_a_repeated_product_finds_its_weights_in_the_l2(self, tmp_path):
        layer = write_workload(tmp_path, kind="layer", name="twice", problems=[TWICE])
        total, one = (simulate("ascend-910b", layer, one_program=each) for each in (False, True))
        (part,) = total.parts
        assert total.hbm_read_bytes == 2 * part.hbm_read_bytes
        assert one.hbm_read_bytes == part.hbm_read_bytes == 2 * (64 * 512 + 512 * 512)
        assert one.l2["hit_fraction"] > total.l2["hit_fraction"]
        assert one.cycles < total.cycles

    @pytest.mark.parametrize("machine", ["ascend-910b", "edge-npu"])
    def test_what_flows_is_not_read_from_the_hbm_where_the_l2_holds_it(self, tmp_path, machine):
        copy = {"kind": "vector", "function": "copy", "rows": 64, "cols": 512}
        parts = [{**copy, "name": "first"}, {**copy, "name": "second", "reads": {"x": "first"}}]
        flowing = write_workload(tmp_path, "f.yaml", kind="layer", name="both", problems=parts)
        parts[1].pop("reads")
        apart = write_workload(tmp_path, "a.yaml", kind="layer", name="both", problems=parts)
        together, alone = (simulate(machine, each, one_program=True) for each in (flowing, apart))
        size = 64 * 512 * 2
        has_l2 = machine == "ascend-910b"
        assert alone.hbm_read_bytes == 2 * size
        assert together.hbm_read_bytes == (size if has_l2 else 2 * size)
        stored_and_read = together.hbm_bytes_by_tensor["0.first.result"]
        assert stored_and_read == (size if has_l2 else 2 * size)
        if has_l2:
            requested = together.requested_bytes_by_tensor["0.first.result"]
            assert requested == 2 * size
        # Both are stored; nobody has to read what was stored here.
        assert together.compulsory_bytes == 3 * size
        assert alone.compulsory_bytes == 4 * size
        # Without one program each part begins with an empty L2.
        assert simulate(machine, flowing) == simulate(machine, apart)

    @pytest.mark.parametrize(
        ("workload", "hidden", "kv", "wide"),
        [
            ("smollm2-135m/decode-4096", 576, 192, 1536),
            ("llama-3-8b/decode-4096", 4096, 1024, 14336),
        ],
    )
    def test_the_l2_saves_each_activation_once(self, workload, hidden, kv, wide):
        """One token, whose old keys and values are in the cache."""
        columns = {
            "1.qkv.a": hidden,
            "2.rotary.x": hidden + kv,
            "3.kv_write.x": kv,
            "3.kv_write.y": kv,
            "4.attention of steps.q": hidden,
            "5.output.a": hidden,
            "6.norm of feed-forward.x": hidden,
            "6.norm of feed-forward.y": hidden,
            "7.gate-up.a": hidden,
            "8.activation.x": wide,
            "8.activation.y": wide,
            "9.down.a": wide,
        }
        loaded = load_workload(workload)
        silent = [part.model_copy(update={"reads": {}}) for part in loaded.problem.problems]
        problem = loaded.problem.model_copy(update={"problems": tuple(silent)})
        apart = replace(loaded, problem=problem)
        # Weights of a large layer push activations out of the L2 that ships, which is no less true.
        room = {"machine.l2.capacity": "1 GiB"}
        flowing, alone = (
            simulate("ascend-910b", each, settings=room, one_program=True)
            for each in (loaded, apart)
        )
        assert alone.hbm_read_bytes - flowing.hbm_read_bytes == sum(columns.values()) * 2
        assert alone.compulsory_bytes - flowing.compulsory_bytes == sum(columns.values()) * 2
        assert flowing.hbm_write_bytes == alone.hbm_write_bytes
        assert flowing.cycles < alone.cycles
        assert alone.reads == {}
        assert list(flowing.reads) == list(columns)
        assert flowing.reads["5.output.a"] == "attention of steps"
        totals = [simulate("ascend-910b", each) for each in (loaded, apart)]
        assert totals[0] == totals[1]
        assert totals[0].reads is None

    @pytest.mark.parametrize(
        ("machine", "recipe", "apart"),
        [
            ("edge-npu", "gemm", []),
            ("edge-npu", "weight_only", []),
            ("tender-asic", "quantized", []),
            ("tender-asic", "quantized(input=quantized)", []),
            (
                "tender-asic",
                "quantized(input=quantized, activation_scale=tensor)",
                ["1.up.x_codes"],
            ),
        ],
    )
    def test_kernels_read_what_they_store_as_the_problem_says(
        self, tmp_path, machine, recipe, apart
    ):
        """Codes of one static scale are nothing that a part before stores, so they lie apart."""
        copy = {**EAGER, "function": "copy"}
        up = {**TWICE, "count": 1, "reads": {"a": "norm"}}
        parts = [copy, up, {**copy, "name": "last", "reads": {"x": "up"}}]
        path = write_workload(tmp_path, kind="layer", name="mixed", problems=parts)
        report = simulate(machine, path, recipe, one_program=True)
        assert report.reads == {"1.up.a": "" if apart else "norm", "2.last.x": "up"}
        # It is verified: nothing is read before it is stored, or outside its tensor.
        tensors = record(machine, path, recipe).tensors
        inputs = [tensor.name for tensor in tensors if tensor.role == "input"]
        known = {"1.up.a", "1.up.x", "1.up.x_codes", "2.last.x"}
        assert [name for name in inputs if name in known] == apart

    def test_has_a_timeline_of_all_parts(self, layer):
        report = simulate("edge-npu", layer, "flash", timeline=True)
        assert report.one_program
        timeline = report.timeline
        assert timeline.cycles == report.cycles == timeline.end_cycle.max()
        assert len(timeline.core) == report.ops
        assert {"load 0.qkv.a", "matmul 0.qkv.acc", "store 0.qkv[2].c"} <= set(timeline.names)
        assert {"load 1.attention.k", "store 1.attention.o"} <= set(timeline.names)
        assert timeline.about["workload"] == "both"
        names = [timeline.names[index] for index in timeline.name_index]
        first = {name: timeline.start_cycle[names.index(name)] for name in timeline.names}
        runs = simulate("edge-npu", layer, "flash").parts[0].cycles
        assert first["store 0.qkv[1].c"] - first["store 0.qkv[0].c"] == runs
        assert first["load 1.attention.q"] >= 3 * runs

    def test_is_the_program_that_is_recorded(self, layer):
        program = record("edge-npu", layer, "flash")
        assert (program.name, program.num_ops) == (
            "both",
            simulate("edge-npu", layer, "flash").ops,
        )
        assert [tensor.name for tensor in program.tensors] == [
            *("0.qkv.a", "0.qkv.b", "0.qkv[0].c", "0.qkv[1].c", "0.qkv[2].c"),
            *("1.attention.q", "1.attention.k", "1.attention.v", "1.attention.o"),
        ]

    def test_parts_with_tensors_are_judged(self, tmp_path):
        family = {"source": "uniform", "seed": 5}
        parts = [{**TWICE, "tensors": family}, EAGER]
        layer = write_workload(tmp_path, kind="layer", name="judged", problems=parts)
        report = simulate("edge-npu", layer, one_program=True, with_parts=True)
        assert report.parts[0].accuracy.relative_rmse < 2**-10
        assert report.accuracy is report.parts[1].accuracy is None

    def test_both_engines_give_one_report(self, layer):
        compiled, reference = (
            simulate("edge-npu", layer, "flash", engine=engine, one_program=True)
            for engine in ("compiled", "reference")
        )
        assert replace(reference, engine="compiled") == compiled

    def test_is_scheduled_once(self, layer, monkeypatch):
        """Names of the report follow from what is asked and recorded, and not from reports."""
        scheduled = []

        def counted(program, machine):
            scheduled.append(program.name)
            return ENGINES["reference"](program, machine)

        monkeypatch.setitem(ENGINES, "compiled", counted)
        one = simulate("edge-npu", layer, "flash", one_program=True)
        assert (scheduled, one.parts) == (["both"], ())
        together = simulate("edge-npu", layer, "flash", one_program=True, with_parts=True)
        assert scheduled[1:] == ["both", "gemm on qkv", "flash on attention"]
        assert replace(together, parts=()) == one

    def test_changes_nothing_for_a_single_problem(self, small):
        assert simulate("edge-npu", small, "flash", one_program=True) == simulate(
            "edge-npu", small, "flash"
        )

    def test_runs_at_one_clock_under_a_power_cap(self, tmp_path):
        """The product alone would draw more than the cap, and the norm alone less."""
        parts = [{"kind": "gemm", "name": "up", "m": 1024, "n": 1024, "k": 1024}, EAGER]
        layer = write_workload(tmp_path, kind="layer", name="capped", problems=parts)
        free = simulate("ascend-910b-no-l2", layer)
        cap_w = 0.8 * free.energy_j / free.time_s
        power = {"lowest_clock": "100 MHz", "reference_clock": "1.8 GHz", "energy_exponent": 1.0}
        settings = {f"machine.power.{key}": value for key, value in power.items()}
        settings["machine.power.cap"] = f"{cap_w} W"
        one = simulate("ascend-910b-no-l2", layer, None, settings, one_program=True)
        assert one.power_cap == "met"
        assert one.energy_j / one.time_s == pytest.approx(cap_w, rel=CLOSE)
        product, norm = simulate("ascend-910b-no-l2", layer, None, settings).parts
        assert product.clock_hz < one.clock_hz < norm.clock_hz == 1.8e9

    @pytest.mark.parametrize("run", [record, partial(simulate, one_program=True)])
    def test_parts_that_use_the_machine_in_different_ways_are_refused(self, tmp_path, run):
        layer = write_workload(tmp_path, kind="layer", name="mixed", problems=[TWICE, EAGER])
        with pytest.raises(WorkloadError) as error:
            run("h200-sxm", layer)
        product, norm = (str(part.recipe) for part in simulate("h200-sxm", layer).parts)
        assert "code=eager" in norm
        assert str(error.value) == (
            f"mixed: its parts up ({product}) and norm ({norm}) use machine h200-sxm in different "
            f"ways, so they cannot be one program; run the layer as the sum of its parts"
        )

    def test_a_layer_that_is_too_long_is_refused(self, tmp_path):
        many = {**TWICE, "count": 10**7}
        layer = write_workload(tmp_path, kind="layer", name="long", problems=[many])
        ops = simulate("edge-npu", layer).ops
        assert str(refusal("edge-npu", layer, one_program=True)) == (
            f"long: found {ops} ops as one program, allowed: {2**25}; "
            f"run its parts one by one, or give it fewer or smaller ones"
        )


class TestWhatComesBack:
    @pytest.mark.parametrize("kernel", ["flash", "dense"])
    def test_both_engines_give_one_report(self, small, kernel):
        compiled = simulate("edge-npu", small, kernel, engine="compiled")
        reference = simulate("edge-npu", small, kernel, engine="reference")
        assert replace(reference, engine="compiled") == compiled

    def test_a_long_program_costs_what_its_tiles_do(self):
        """Every number is a closed form of the tiles; the bound is that of the cube."""
        m, n, k, tile = 2048, 2048, 11008, 16
        settings = {"workload.m": m, "workload.n": n, "workload.k": k}
        recipe = f"gemm(tile_m={tile}, tile_n={tile}, tile_k={tile})"
        report = simulate("edge-npu", "gemm-1024", recipe, settings)
        items, steps = (m // tile) * (n // tile), k // tile
        assert report.ops == items * (3 * steps + 2) > 2**25
        assert report.macs == m * n * k
        assert report.hbm_read_bytes == items * steps * 2 * tile * tile * 2
        assert report.hbm_write_bytes == m * n * 2
        assert report.hbm_bytes_by_tensor["a"] == report.hbm_bytes_by_tensor["b"]
        assert report.scratchpad_held_peak_bytes <= report.scratchpad_peak_bytes
        assert report.busy_cycles["cube"] <= report.core_cycles

    def test_the_same_twice(self, small):
        assert simulate("edge-npu", small, "flash") == simulate("edge-npu", small, "flash")

    def test_tensors_change_the_accuracy_and_nothing_else(self, small):
        family = {"source": "uniform", "mean": 0, "amplitude": 1, "seed": 5}
        without = simulate("edge-npu", small, "flash")
        judged = simulate("edge-npu", small, "flash", {"workload.tensors": family})
        assert without.accuracy is None
        assert 0 < judged.accuracy.relative_rmse < 2**-10  # FP16 keeps 11 significant bits
        assert judged.seed == 5
        assert replace(judged, accuracy=None, seed=None, settings={}) == without

    def test_numbers_that_are_not_finite_are_reported_without_a_warning(self, tmp_path):
        rng = np.random.default_rng(1)
        q, k, v = (rng.standard_normal((heads, 48, 16)) for heads in (2, 1, 1))
        q[1, 3, 0], v[0, 40, 5] = np.inf, np.nan
        np.savez(tmp_path / "t.npz", q=q, k=k, v=v)
        source = {"source": "file", "path": "t.npz"}
        path = write_workload(tmp_path, kind="attention", name="w", **SMALL, tensors=source)
        accuracy = simulate("edge-npu", path, "flash").accuracy
        # One row of 16, and the column of a value that the causal mask hides from some rows.
        assert 16 / (96 * 16) < accuracy.nonfinite_fraction < (16 + 96) / (96 * 16)
        # There the reference is not finite either, so that it has no error.
        assert 0 < accuracy.relative_rmse < 2**-9

    def test_an_overflow_is_an_infinite_error(self, small):
        family = {"source": "uniform", "mean": 100, "amplitude": 1, "seed": 5}
        accuracy = simulate("edge-npu", small, "flash", {"workload.tensors": family}).accuracy
        assert accuracy.nonfinite_fraction == 1  # scores of 16 x 100^2 are beyond FP16
        assert accuracy.rmse == accuracy.relative_rmse == accuracy.max_abs_error == np.inf

    @pytest.mark.parametrize(
        ("recipe", "is_assumed"),
        [
            ("flash", False),
            ("window(window=8)", False),
            ("sparse", True),
            ("sparse(mask=window)", False),
            ("sift", True),
            ("topk", True),
            ("quest", True),
        ],
    )
    def test_what_is_selected_without_tensors_is_assumed(self, small, recipe, is_assumed):
        generation = {"workload.q_len": 1, "workload.steps": 48}
        takes_rows = Recipe.parse(recipe).algorithm.query_rows == "any"
        found = simulate("ascend-910b", small, recipe, {} if takes_rows else generation)
        assert found.selection_assumed is is_assumed
        assert found.to_row()["selection_assumed"] is is_assumed

    def test_what_is_selected_by_tensors_is_not_assumed(self, small):
        family = {"source": "uniform", "seed": 5}
        report = simulate("edge-npu", small, "sparse", {"workload.tensors": family})
        assert not report.selection_assumed

    def test_record_returns_the_program_of_the_run(self, small):
        assert (
            record("edge-npu", small, "flash").num_ops == simulate("edge-npu", small, "flash").ops
        )

    def test_the_public_names(self):
        assert accelsim.simulate is simulate
        assert {"Recipe", "Report", "load_machine", "load_workload", "simulate", "sweep"} <= set(
            accelsim.__all__
        )


def test_a_relative_path_of_tensors_starts_at_the_workload_file(tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    a, b = np.eye(4), np.arange(16.0).reshape(4, 4)
    np.savez(folder / "t.npz", a=a, b=b)
    write_workload(
        folder,
        kind="gemm",
        name="identity",
        m=4,
        n=4,
        k=4,
        tensors={"source": "file", "path": "t.npz"},
    )
    monkeypatch.chdir(tmp_path)
    report = simulate("edge-npu", Path("elsewhere/w.yaml"), "gemm")
    assert report.accuracy.max_abs_error == 0
