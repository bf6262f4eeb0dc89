"""Layers in which a kernel stores codes for the linear that reads them, and those that are refused.

The layer is norm, linear, attention, linear, activation, linear, as in a decoder.
"""

import pytest
import yaml

from accelsim.errors import AccelsimError
from accelsim.loading import load_workload
from accelsim.program.verifier import verify
from accelsim.simulation import record, simulate

MACHINE = "tender-asic"
ROWS, HEADS, DIM, FFN = 32, 4, 16, 96
HIDDEN = HEADS * DIM
FUSED = "tender(input=quantized, groups=4)"


def vector(name, function, cols, reads, **keys):
    return {
        "kind": "vector",
        "name": name,
        "function": function,
        "rows": ROWS,
        "cols": cols,
        "reads": reads,
        **keys,
    }


def linear(name, n, k, reads, **keys):
    return {"kind": "gemm", "name": name, "m": ROWS, "n": n, "k": k, "reads": reads, **keys}


def parts_of(**keys):
    """Return the parts of a layer; keys: what some of them say besides."""
    hidden, qkv = HIDDEN, 3 * HIDDEN
    heads = {name: f"qkv[{i * hidden}:{(i + 1) * hidden}]" for i, name in enumerate("qkv")}
    attention = {"q_heads": HEADS, "kv_heads": HEADS, "head_dim": DIM, "q_len": ROWS}
    parts = [
        vector("norm", "add_rmsnorm", hidden, {}),
        linear("qkv", qkv, hidden, {"a": "norm.result"}),
        {"kind": "attention", "name": "attention", "kv_len": ROWS, "reads": heads, **attention},
        linear("o", hidden, hidden, {"a": "attention"}),
        linear("up", 2 * FFN, hidden, {"a": "o"}),
        vector("act", "silu_mul", FFN, {"x": f"up[0:{FFN}]", "y": f"up[{FFN}:{2 * FFN}]"}),
        linear("down", hidden, FFN, {"a": "act"}),
    ]
    # What up reads is no kernel that stores codes.
    parts[4]["recipe"] = "tender(groups=4)"
    return [each | keys.get(each["name"], {}) for each in parts]


def layer_of(tmp_path, parts):
    path = tmp_path / "layer.yaml"
    path.write_text(yaml.safe_dump({"kind": "layer", "name": "small", "problems": parts}))
    return load_workload(path)


def fused_parts(recipe=FUSED, **keys):
    own = {name: {"recipe": recipe} for name in ("qkv", "o", "down")}
    return parts_of(**{name: own.get(name, {}) | keys.get(name, {}) for name in {*own, *keys}})


def refused(tmp_path, parts, recipe=None):
    with pytest.raises(AccelsimError) as error:
        simulate(MACHINE, layer_of(tmp_path, parts), recipe)
    return str(error.value)


def test_recipes_of_producers_follow_from_their_readers(tmp_path):
    report = simulate(MACHINE, layer_of(tmp_path, fused_parts()))
    assert [part.recipe for part in report.parts] == [
        "vector(code_groups=4, codes=int8)",
        FUSED.replace("(input=quantized, groups=4)", "(groups=4, input=quantized)"),
        "int_flash(code_groups=4, codes=int8)",
        f"tender(groups=4, input=quantized, input_run={DIM})",
        "tender(groups=4)",
        "vector(code_groups=4, codes=int8)",
        "tender(groups=4, input=quantized)",
    ]


def test_codes_and_scales_are_the_same_tensors_as_one_program(tmp_path):
    layer = layer_of(tmp_path, fused_parts())
    report = simulate(MACHINE, layer, one_program=True)
    assert report.reads["1.qkv.a"] == "norm.result"
    assert report.reads["3.o.a"] == "attention"
    assert report.reads["6.down.a"] == "act"
    program = record(MACHINE, layer)
    verify(program)
    inputs = {tensor.name for tensor in program.tensors if tensor.role == "input"}
    assert not {name for name in inputs if ".x" in name and "factor" not in name} - {"0.norm.x"}
    stored = {tensor.name for tensor in program.tensors if tensor.role == "output"}
    for name in ("0.norm.result", "2.attention.o", "5.act.result"):
        assert {f"{name}_codes", f"{name}_scale"} <= stored


def test_what_is_stored_and_read_is_codes_in_the_place_of_values(tmp_path):
    """Between norm and qkv: 2 + 2 + 1 + 1 bytes an element and 8 a row, now 1 + 1 and as many; in
    the linear also the powers of two of every channel, which the norm loads in a byte."""
    fused, plain = (
        simulate(MACHINE, layer_of(tmp_path, parts))
        for parts in (fused_parts(), fused_parts("tender(groups=4)"))
    )

    def moved(report, part):
        return report.parts[part].hbm_read_bytes + report.parts[part].hbm_write_bytes

    tiles = [report.parts[0].parameters["tile_rows"] for report in (fused, plain)]
    assert tiles[0] == tiles[1] == ROWS
    elements, powers = ROWS * HIDDEN, HIDDEN
    assert moved(plain, 0) - moved(fused, 0) == elements - 4 * ROWS - powers
    assert moved(plain, 1) - moved(fused, 1) == 3 * elements + 4 * ROWS + 4 * HIDDEN
    plain_heads, fused_heads = (report.parts[2].hbm_write_bytes for report in (plain, fused))
    assert plain_heads - fused_heads == elements - 4 * HEADS * ROWS


def test_a_recipe_that_is_asked_for_goes_before_that_of_a_part(tmp_path):
    layer = layer_of(tmp_path, fused_parts())
    report = simulate(MACHINE, layer, "quantized")
    assert [part.recipe for part in report.parts] == [
        "vector",
        "quantized",
        "int_flash",
        "quantized",
        "quantized",
        "vector",
        "quantized",
    ]


def test_more_rows_than_a_chunk_are_one_chunk(tmp_path):
    norm = vector("norm", "rmsnorm", HIDDEN, {}) | {"rows": 2048}
    up = linear("up", HIDDEN, HIDDEN, {"a": "norm"}) | {"m": 2048}
    report = simulate(MACHINE, layer_of(tmp_path, [norm, up]), FUSED)
    assert report.parts[1].recipe == "tender(chunk_rows=2048, groups=4, input=quantized)"


def test_a_form_that_agrees_may_be_written_out(tmp_path):
    written = {"norm": {"recipe": "vector(codes=int8, code_groups=4)"}}
    both = [
        simulate(MACHINE, layer_of(tmp_path, parts))
        for parts in (fused_parts(), fused_parts(**written))
    ]
    assert both[0].cycles == both[1].cycles


@pytest.mark.parametrize(
    ("recipe", "found"),
    [
        ("vector(codes=int8, code_groups=3)", "int8 codes in 3 channel groups of the rows thems"),
        ("vector(codes=int8)", "int8 codes, a scale a row"),
        ("vector(codes=int4, code_groups=4)", "int4 codes in 4 channel groups"),
        ("vector(codes=int8, code_rotation=8)", "int8 codes, rotated in blocks of 8, a scale a ro"),
        ("vector(codes=int8, code_candidates=2)", "int8 codes, the best of 2 bases, a scale a row"),
    ],
)
def test_another_form_than_is_read_is_refused(tmp_path, recipe, found):
    message = refused(tmp_path, fused_parts(norm={"recipe": recipe}))
    assert message.startswith(
        "qkv (tender(groups=4, input=quantized)) reads int8 codes in 4 channel groups of the rows "
        "themselves, a scale a row, but norm stores "
    )
    assert found in message
    assert message.endswith(
        "allowed: the same; what its recipe leaves out of codes follows from a linear with input "
        "= quantized"
    )


def test_codes_that_are_read_as_values_are_refused(tmp_path):
    parts = parts_of(norm={"recipe": "vector(codes=int8)"}, qkv={"recipe": "quantized"})
    message = refused(tmp_path, parts)
    assert message.startswith("qkv (quantized) reads values, but norm stores int8 codes, a scale a")


def test_codes_that_another_function_reads_are_refused(tmp_path):
    last = vector("last", "copy", FFN, {"x": "act"})
    message = refused(tmp_path, [*fused_parts(), last])
    assert message.startswith("last (vector) reads values, but act stores int8 codes in 4 channel")


def test_a_producer_without_codes_is_refused_with_those_that_have_them(tmp_path):
    message = refused(tmp_path, fused_parts(up={"recipe": FUSED}))
    assert message == (
        "up (tender(groups=4, input=quantized)) reads codes of o, but kernel tender stores none; "
        "kernels that do: vector, flash, int_flash; or input = float for up, in a recipe of its own"
    )


def test_a_sum_that_is_read_as_codes_is_refused(tmp_path):
    message = refused(tmp_path, fused_parts(qkv={"reads": {"a": "norm.sum"}}))
    assert "reads codes of norm.sum[0:64], allowed: all columns of norm.result, which is" in message


def test_other_runs_than_heads_are_refused(tmp_path):
    recipe = "tender(input=quantized, groups=4, input_run=32)"
    message = refused(tmp_path, fused_parts(o={"recipe": recipe}))
    assert "a scale a row and 32 channels, but attention stores int8 codes in 4 channel" in message


def test_several_bases_of_rows_of_heads_are_refused(tmp_path):
    recipe = "tender(input=quantized, groups=4, candidates=2)"
    message = refused(tmp_path, fused_parts(o={"recipe": recipe}))
    assert "code_candidates: found 2, allowed: 1, for a row of one head" in message


def test_several_chunks_are_refused(tmp_path):
    recipe = "tender(input=quantized, chunk_rows=16)"
    message = refused(tmp_path, fused_parts(qkv={"recipe": recipe}))
    assert message == (
        "qkv: found 2 chunks of 16 rows, allowed: one, whose groups the producer of X knows; "
        f"such as chunk_rows = {ROWS}"
    )


def test_a_machine_without_an_array_is_told_what_it_lacks(tmp_path):
    with pytest.raises(AccelsimError, match="edge-npu has no int_mac, which tender on qkv"):
        simulate("edge-npu", layer_of(tmp_path, fused_parts()))


def test_a_recipe_of_a_part_for_another_kind_is_refused(tmp_path):
    message = refused(tmp_path, fused_parts(norm={"recipe": "tender"}))
    assert message == (
        "part norm: found recipe tender, whose kernel is for gemm problems, allowed: kernels for "
        "vector problems"
    )


def test_a_recipe_of_a_part_that_is_none_is_refused(tmp_path):
    message = refused(tmp_path, fused_parts(norm={"recipe": "vector(tile_row=3)"}))
    assert message.startswith("part norm: vector: tile_row: unknown key")


def two_readers(tmp_path, *recipes):
    both = [
        linear(name, HIDDEN, HIDDEN, {"a": "norm.result"}, recipe=recipe)
        for name, recipe in zip(("gate", "up"), recipes, strict=True)
    ]
    return layer_of(tmp_path, [vector("norm", "add_rmsnorm", HIDDEN, {}), *both])


def test_two_linears_may_read_the_same_codes(tmp_path):
    layer = two_readers(tmp_path, FUSED, f"{FUSED[:-1]}, weight_bits=4)")
    report = simulate(MACHINE, layer, one_program=True)
    assert report.reads == {"1.gate.a": "norm.result", "2.up.a": "norm.result"}


def test_two_linears_that_read_other_codes_are_refused(tmp_path):
    layer = two_readers(tmp_path, FUSED, "tender(input=quantized, groups=3)")
    with pytest.raises(AccelsimError, match=r"^up .* reads int8 codes in 3 .* norm stores"):
        simulate(MACHINE, layer)
