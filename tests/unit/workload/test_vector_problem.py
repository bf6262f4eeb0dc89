"""Keys of vector functions and of products of experts: what is refused, and what is drawn."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from accelsim.workload.problem import LayerProblem, Workload
from accelsim.workload.tensors import load_tensors
from accelsim.workload.vector import rotary_table

WORKLOAD = TypeAdapter(Workload)


def vector(function, **keys):
    known = {"kind": "vector", "name": "v", "function": function, "rows": 6, "cols": 8}
    return WORKLOAD.validate_python(known | keys)


def experts(**keys):
    known = {"kind": "grouped_gemm", "name": "e", "rows": [3, 0, 2], "n": 4, "k": 5}
    return WORKLOAD.validate_python(known | keys)


def mistake(make, *arguments, **keys):
    with pytest.raises(ValidationError) as raised:
        make(*arguments, **keys)
    (error,) = raised.value.errors()
    return error["loc"][1:], error["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("function", "keys", "missing"),
    [
        ("rotary", {"table_rows": 9}, "head_dim"),
        ("rotary", {"head_dim": 4}, "table_rows"),
        ("embedding", {}, "table_rows"),
        ("kv_write", {"table_rows": 9}, "page"),
        ("router", {}, "top_k"),
        ("softcap", {}, "softcap"),
        ("join_heads", {"head_dim": 4}, "y_cols"),
        ("permute", {}, "top_k"),
        ("combine", {}, "top_k"),
    ],
)
def test_a_function_needs_its_own_keys(function, keys, missing):
    assert mistake(vector, function, **keys) == (
        (missing,),
        f"found no {missing}, allowed: a size, which function = {function} needs",
    )


def test_a_key_of_another_function_is_refused():
    assert mistake(vector, "softmax", top_k=2) == (
        ("top_k",),
        "found 2 with function = softmax, allowed: only with router, permute, combine",
    )
    assert mistake(vector, "argmax", table_rows=2) == (
        ("table_rows",),
        "found 2 with function = argmax, "
        "allowed: only with rotary, norm_rotary, embedding, kv_write",
    )


def test_columns_of_y_are_those_of_two_functions():
    assert vector("kv_write", table_rows=9, page=1, y_cols=0).output_shapes == {"keys": (9, 8)}
    assert mistake(vector, "softmax", y_cols=2) == (
        ("y_cols",),
        "found 2 with function = softmax, allowed: only with join_heads, kv_write",
    )
    assert mistake(vector, "join_heads", head_dim=4, y_cols=0) == (
        ("y_cols",),
        "found 0 with function = join_heads, allowed: 1 or more",
    )
    assert vector("join_heads", head_dim=1, y_cols=2).output_shapes == {"result": (6, 24)}
    assert mistake(vector, "join_heads", head_dim=3, y_cols=2) == (
        ("head_dim",),
        "found 3, allowed: a divisor of cols = 8",
    )


@pytest.mark.parametrize("head_dim", [1, 3, 6, 16])
def test_heads_are_even_and_whole(head_dim):
    assert mistake(vector, "rotary", head_dim=head_dim, table_rows=9) == (
        ("head_dim",),
        f"found {head_dim}, allowed: an even divisor of cols = 8",
    )


def test_a_cache_has_pages_for_all_rows():
    assert vector("kv_write", table_rows=11, page=3).page == 3
    assert mistake(vector, "kv_write", rows=9, table_rows=11, page=4) == (
        ("page",),
        "found 4 with table_rows = 11, allowed: pages of which the cache has 3, for rows = 9",
    )


def test_a_token_takes_no_more_experts_than_there_are():
    assert vector("router", top_k=8).top_k == 8
    # Columns of combine are features, of which there may be fewer.
    assert vector("combine", top_k=9).top_k == 9
    assert mistake(vector, "router", top_k=9) == (
        ("top_k",),
        "found 9, allowed: at most cols = 8, the experts",
    )


def test_columns_that_fp32_cannot_tell_apart_are_refused():
    assert vector("argmax", cols=2**24).cols == 2**24
    assert mistake(vector, "argmax", cols=2**24 + 1) == (
        ("cols",),
        "found 16777217 with function = argmax, allowed: at most 16777216, "
        "whose numbers FP32 tells apart",
    )


def test_shapes_and_bytes_by_hand():
    problem = vector("rotary", head_dim=4, table_rows=9, order="sequential")
    assert problem.input_shapes == {"x": (6, 8), "y": (9, 4)}
    assert problem.tensor_bytes == {"x": 96, "y": 48, "result": 96, "numbers": 24}
    problem = vector("embedding", table_rows=4, order="sequential")
    assert problem.tensor_bytes == {"x": 64, "result": 96, "numbers": 24}
    problem = vector("router", top_k=2)
    assert problem.tensor_bytes == {"x": 96, "result": 24, "experts": 48}
    problem = vector("permute", top_k=2)
    assert problem.tensor_bytes == {"numbers": 48, "result": 48, "firsts": 32}
    problem = vector("combine", top_k=3)
    assert problem.input_shapes == {"x": (18, 8), "y": (6, 3)}
    assert problem.tensor_bytes == {"x": 288, "y": 36, "result": 96, "numbers": 72}
    problem = vector("argmax")
    assert problem.tensor_bytes == {"x": 96, "result": 24}
    problem = vector("kv_write", table_rows=100, page=1)
    assert problem.tensor_bytes == {"x": 96, "y": 96, "keys": 96, "values": 96}


def test_a_token_of_permute_has_different_experts():
    drawn = vector("permute", rows=50, top_k=7).row_numbers.reshape(50, 7)
    assert all(len(set(each.tolist())) == 7 for each in drawn)
    assert set(drawn.ravel().tolist()) == set(range(8))
    taken = vector("permute", rows=3, top_k=3, order="sequential").row_numbers
    assert taken.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]


def test_places_of_combine_are_all_of_the_rows():
    drawn = vector("combine", rows=20, top_k=3).row_numbers
    assert drawn.tolist() != sorted(drawn.tolist()) == list(range(60))
    assert vector("combine", rows=2, top_k=2, order="sequential").row_numbers.tolist() == [
        *(0, 1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("function", "more", "tables"),
    [
        ("rotary", {"head_dim": 4, "table_rows": 9}, {"y"}),
        ("embedding", {"table_rows": 4}, {"x"}),
        ("kv_write", {"table_rows": 100, "page": 1}, {"keys", "values"}),
        ("router", {"top_k": 2}, set()),
    ],
)
def test_what_moves_is_all_but_tables(function, more, tables):
    problem = vector(function, **more)
    everything = problem.tensor_bytes
    assert tables <= everything.keys()
    assert problem.moved_bytes == {k: n for k, n in everything.items() if k not in tables}


def test_the_table_of_rotary_is_computed_and_not_drawn():
    problem = vector(
        "rotary", head_dim=4, table_rows=9, tensors={"source": "uniform"}, dtype="fp32"
    )
    table = load_tensors(problem, Path()).y
    assert np.array_equal(table, rotary_table(9, 4).astype(np.float32))
    assert table[0].tolist() == [1, 1, 0, 0]
    assert table[3] == pytest.approx([np.cos(3), np.cos(0.03), np.sin(3), np.sin(0.03)])


def test_experts_without_any_row_are_refused():
    assert mistake(experts, rows=[0, 0]) == (
        ("rows",),
        "found 0 rows in all, allowed: 1 to 2147483647",
    )
    assert mistake(experts, rows=[2**30, 2**30]) == (
        ("rows",),
        "found 2147483648 rows in all, allowed: 1 to 2147483647",
    )


def test_parts_of_a_layer_may_be_products_of_experts():
    part = {"kind": "grouped_gemm", "name": "e", "rows": [3, 0, 2], "n": 4, "k": 5, "count": 2}
    layer = WORKLOAD.validate_python({"kind": "layer", "name": "l", "problems": [part]})
    assert isinstance(layer, LayerProblem)
    assert layer.problems[0].problem == experts()
    assert layer.macs == 2 * 5 * 4 * 5
