import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from accelsim.config.schema import json_schema
from accelsim.numerics.formats import Format
from accelsim.workload.flow import Source
from accelsim.workload.problem import (
    AttentionProblem,
    GemmProblem,
    GroupedGemmProblem,
    LayerPart,
    LayerProblem,
    VectorProblem,
    Workload,
)
from accelsim.workload.sources import HybridSource, ModelHeadsSource, UniformSource

WORKLOAD = TypeAdapter(Workload)
ATTENTION = {
    "kind": "attention",
    "name": "x",
    "q_heads": 6,
    "kv_heads": 2,
    "head_dim": 64,
    "q_len": 3,
    "kv_len": 5,
}
GEMM = {"kind": "gemm", "name": "y", "m": 3, "n": 5, "k": 7}


def read(**keys):
    return WORKLOAD.validate_python(keys)


def mistake(**keys):
    with pytest.raises(ValidationError) as raised:
        read(**keys)
    (error,) = raised.value.errors()
    return error["loc"], error["msg"]


def test_attention_has_sensible_defaults():
    problem = read(**ATTENTION)
    assert isinstance(problem, AttentionProblem)
    assert (problem.batch, problem.causal, problem.dtype, problem.tensors) == (
        1,
        False,
        Format.FP16,
        None,
    )


def test_attention_shapes_and_bytes_by_hand():
    problem = read(**ATTENTION, batch=2, dtype="fp8_e4m3")
    assert problem.input_shapes == {"q": (12, 3, 64), "k": (4, 5, 64), "v": (4, 5, 64)}
    assert problem.output_shapes == {"o": (12, 3, 64)}
    # The output of FP8 attention is BF16: 12 x 3 x 64 x 2 bytes.
    assert problem.tensor_bytes == {"q": 2304, "k": 1280, "v": 1280, "o": 4608}
    assert problem.compulsory_bytes == 9472


@given(st.integers(1, 9), st.integers(0, 9), st.booleans())
def test_attention_macs_count_what_the_mask_lets_through(q_len, extra, causal):
    problem = read(**ATTENTION | {"q_len": q_len, "kv_len": q_len + extra}, batch=2, causal=causal)
    pairs = sum(
        not causal or column <= row + extra
        for row in range(q_len)
        for column in range(q_len + extra)
    )
    assert problem.macs == 2 * 6 * pairs * (64 + 64)


def test_gemm_shapes_bytes_and_macs_by_hand():
    problem = read(**GEMM, dtype="int4")
    assert isinstance(problem, GemmProblem)
    assert problem.input_shapes == {"a": (3, 7), "b": (7, 5)}
    assert problem.output_shapes == {"c": (3, 5)}
    assert problem.macs == 105
    # 21 and 35 nibbles, rounded up to whole bytes, and 15 sums of 4 bytes.
    assert problem.tensor_bytes == {"a": 11, "b": 18, "c": 60}


@pytest.mark.parametrize(
    ("dtype", "output_dtype"),
    [
        ("fp32", "fp32"),
        ("bf16", "bf16"),
        ("fp16", "fp16"),
        ("fp8_e4m3", "bf16"),
        ("fp8_e5m2", "bf16"),
        ("int8", "int32"),
        ("int4", "int32"),
    ],
)
def test_narrow_operands_have_wider_results(dtype, output_dtype):
    assert read(**GEMM, dtype=dtype).output_dtype == output_dtype


def test_a_vector_function_stores_what_it_reads():
    keys = {"kind": "vector", "name": "v", "function": "gelu", "rows": 3, "cols": 5}
    problem = read(**keys, dtype="fp8_e4m3")
    assert problem.tensor_bytes == {"x": 15, "result": 15}


def test_a_layer_adds_up_its_parts():
    layer = read(kind="layer", name="z", problems=[ATTENTION, GEMM | {"count": 2}])
    assert isinstance(layer, LayerProblem)
    attention, gemm = (part.problem for part in layer.problems)
    assert layer.macs == attention.macs + 2 * 105
    assert layer.compulsory_bytes == attention.compulsory_bytes + 2 * gemm.compulsory_bytes


def test_a_part_of_a_layer_is_the_problem_alone_and_a_count():
    """A file has `count` beside the keys of the problem; so has what is written again."""
    layer = read(kind="layer", name="z", problems=[ATTENTION, GEMM | {"count": 2}])
    assert layer.problems == (
        LayerPart(problem=read(**ATTENTION)),
        LayerPart(problem=read(**GEMM), count=2),
    )
    assert type(layer.problems[1].problem) is GemmProblem
    written = layer.model_dump(mode="json")["problems"]
    assert [part["count"] for part in written] == [1, 2]
    own = {"count": 2, "reads": {}, "recipe": None}
    assert written[1] == read(**GEMM).model_dump(mode="json") | own
    assert LayerProblem.model_validate_json(layer.model_dump_json()) == layer


def test_a_layer_is_made_of_parts_in_python():
    parts = (LayerPart(problem=read(**GEMM), count=3), GEMM)
    layer = LayerProblem(kind="layer", name="z", problems=parts)
    assert layer.macs == 4 * 105
    with pytest.raises(ValidationError):
        LayerPart(problem=read(**GEMM), count=0)


def test_mistakes_in_a_part_are_told_of_its_own_keys():
    def where(**part):
        return mistake(kind="layer", name="z", problems=[GEMM, part])

    path = ("layer", "problems", 1, "gemm")
    assert where(**GEMM, count=0) == ((*path, "count"), "Input should be greater than 0")
    assert where(**GEMM | {"m": 0}) == ((*path, "m"), "Input should be greater than 0")
    assert where(**GEMM, cuont=2) == ((*path, "cuont"), "Extra inputs are not permitted")


def test_sources_are_told_apart_by_their_kind():
    assert read(**ATTENTION, tensors={"source": "uniform", "mean": 30}).tensors == UniformSource(
        source="uniform", mean=30.0, amplitude=1.0, seed=0
    )
    assert isinstance(read(**GEMM, tensors={"source": "hybrid"}).tensors, HybridSource)
    model = read(**ATTENTION, tensors={"source": "model", "layer": 3, "heads": [1]}).tensors
    assert model == ModelHeadsSource(source="model", model="smollm2", layer=3, heads=(1,))


def test_query_heads_must_divide_among_kv_heads():
    assert mistake(**ATTENTION | {"kv_heads": 4}) == (
        ("attention", "kv_heads"),
        "Value error, found 4, allowed: a divisor of q_heads = 6",
    )


def test_causal_rows_must_see_a_key():
    assert mistake(**ATTENTION | {"q_len": 6, "causal": True}) == (
        ("attention", "causal"),
        "Value error, found true with q_len = 6 and kv_len = 5, "
        "allowed: true only if kv_len >= q_len",
    )


def test_attention_refuses_integer_formats():
    assert mistake(**ATTENTION, dtype="int8") == (
        ("attention", "dtype"),
        "Value error, found 'int8', allowed: fp32, bf16, fp16, fp8_e4m3, fp8_e5m2",
    )


def test_gemm_refuses_the_accumulator_format():
    assert mistake(**GEMM, dtype="int32") == (
        ("gemm", "dtype"),
        "Value error, found 'int32', allowed: fp32, bf16, fp16, fp8_e4m3, fp8_e5m2, int8, int4",
    )


def test_a_misspelt_format_hears_only_of_those_that_are_allowed():
    assert mistake(**ATTENTION, dtype="fp17") == (
        ("attention", "dtype"),
        "Value error, found 'fp17', did you mean 'fp16'?; "
        "allowed: fp32, bf16, fp16, fp8_e4m3, fp8_e5m2",
    )


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_are_positive(size):
    assert mistake(**GEMM | {"m": size}) == (("gemm", "m"), "Input should be greater than 0")


def test_sizes_are_bounded():
    assert mistake(**GEMM | {"m": 2**31}) == (
        ("gemm", "m"),
        "Input should be less than 2147483648",
    )


def test_only_a_part_of_a_layer_has_a_count():
    assert mistake(**GEMM, count=2) == (("gemm", "count"), "Extra inputs are not permitted")


def test_a_gemm_takes_a_linear_of_the_model_and_no_heads():
    where, what = mistake(
        **GEMM, tensors={"source": "model", "layer": 0, "linear": "q", "heads": [0]}
    )
    assert where == ("gemm", "tensors", "model", "heads")
    assert what == "Extra inputs are not permitted"


@pytest.mark.parametrize(
    "model", [AttentionProblem, GemmProblem, GroupedGemmProblem, VectorProblem, LayerProblem]
)
def test_every_field_says_what_it_means(model):
    schema = json_schema(model)
    for definition in (schema, *schema["$defs"].values()):
        for name, field in definition.get("properties", {}).items():
            assert field.get("description"), f"{definition['title']}.{name}"


HEADS = {key: each for key, each in ATTENTION.items() if key not in ("q_len", "kv_len")}
MIXED = ({"new": 1, "cached": 4}, {"new": 3, "count": 2})


class TestSequences:
    def test_shapes_bytes_and_macs_by_hand(self):
        problem = read(**HEADS, sequences=MIXED)
        # 1 + 2 x 3 query rows and 5 + 2 x 3 key rows a head; FP16.
        assert problem.input_shapes == {"q": (42, 64), "k": (22, 64), "v": (22, 64)}
        assert problem.output_shapes == {"o": (42, 64)}
        assert problem.compulsory_bytes == 2 * 64 * (2 * 42 + 2 * 22)
        assert problem.macs == 2 * 6 * 64 * (5 + 2 * 9)
        assert (problem.num_sequences, problem.most_queries, problem.most_keys) == (3, 3, 5)

    def test_a_causal_row_sees_what_is_cached_and_the_rows_up_to_it(self):
        problem = read(**HEADS, sequences=[{"new": 3, "cached": 4}], causal=True)
        assert problem.macs == 2 * 6 * 64 * (5 + 6 + 7)

    def test_each_entry_is_a_uniform_problem(self):
        problem = read(**HEADS, sequences=MIXED, causal=True)
        uniform = read(**ATTENTION, causal=True)
        assert problem.parts == (
            uniform.model_copy(update={"q_len": 1, "kv_len": 5}),
            uniform.model_copy(update={"batch": 2, "q_len": 3, "kv_len": 3}),
        )
        assert uniform.parts == (uniform,)

    @pytest.mark.parametrize("key", ["batch", "q_len", "kv_len"])
    def test_lengths_are_said_once(self, key):
        location, text = mistake(**HEADS, sequences=MIXED, **{key: 2})
        assert location == ("attention", key)
        assert text == (
            "Value error, found 2 beside sequences, allowed: sequences, or batch, q_len and kv_len"
        )

    @pytest.mark.parametrize("key", ["q_len", "kv_len"])
    def test_lengths_are_said_somewhere(self, key):
        rest = {name: value for name, value in ATTENTION.items() if name != key}
        assert mistake(**rest) == (("attention", key), "Field required")

    def test_lengths_of_a_file_can_be_taken_back(self):
        taken_back = {"sequences": MIXED, "q_len": None, "kv_len": None}
        assert read(**ATTENTION | taken_back) == read(**HEADS, sequences=MIXED)

    def test_a_text_has_one_length(self):
        source = {"source": "model", "layer": 1}
        location, text = mistake(**HEADS, sequences=MIXED, tensors=source)
        assert location == ("attention", "tensors")
        assert text == (
            "Value error, found source model with sequences, "
            "allowed with them: uniform, hybrid, file"
        )


PARTS = [
    {"kind": "vector", "name": "norm", "function": "rmsnorm", "rows": 4, "cols": 8},
    {"kind": "gemm", "name": "up", "m": 4, "n": 4, "k": 8},
]


class TestWhatFlows:
    @pytest.mark.parametrize("source", ["norm", "norm.result"])
    def test_a_part_reads_what_an_earlier_one_stores(self, source):
        first, second = PARTS
        layer = {
            "kind": "layer",
            "name": "l",
            "problems": [first, second | {"reads": {"a": source}}],
        }
        parts = read(**layer).problems
        assert [part.reads for part in parts] == [{}, {"a": source}]

    @pytest.mark.parametrize(
        ("place", "source", "allowed"),
        [(1, "nrom", "norm"), (1, "up", "norm"), (0, "up", "none, it is first")],
    )
    def test_no_part_reads_from_a_later_one(self, place, source, allowed):
        parts = [dict(each) for each in PARTS]
        parts[place]["reads"] = {"a": source}
        location, text = mistake(kind="layer", name="l", problems=parts)
        assert location == ("layer", "problems")
        assert text == (
            f"Value error, found {parts[place]['name']} that reads a from {source}, "
            f"allowed: an earlier part: {allowed}"
        )

    @pytest.mark.parametrize(
        ("reads", "found"),
        [
            ({"x": "norm"}, "that reads x from norm, allowed: inputs a, b"),
            ({"a": "norm.sum"}, "that reads a from norm.sum, allowed: norm.result"),
            (
                {"a": "norm[0:4]"},
                "that reads a of {a} elements from norm[0:4] of {rows}x4, "
                "allowed: equally many elements; norm[0:n] are the first n columns",
            ),
            (
                {"a": "norm[3:3]"},
                "that reads a from norm[3:3], allowed: columns within 0:{cols}, one or more",
            ),
            (
                {"a": "norm.result[0:99999]"},
                "that reads a from norm.result[0:99999], "
                "allowed: columns within 0:{cols}, one or more",
            ),
        ],
    )
    def test_what_cannot_flow_is_refused(self, reads, found):
        first, second = PARTS
        location, text = mistake(
            kind="layer", name="l", problems=[first, second | {"reads": reads}]
        )
        sizes = {"a": f"{second['m']}x{second['k']}", "rows": first["rows"], "cols": first["cols"]}
        assert location == ("layer", "problems")
        assert text == f"Value error, found up {found.format(**sizes)}"

    def test_an_output_of_several_has_its_name(self):
        norm = {"kind": "vector", "name": "n", "function": "add_rmsnorm", "rows": 2, "cols": 8}
        up = {"kind": "gemm", "name": "up", "m": 2, "n": 3, "k": 8}
        text = mistake(kind="layer", name="l", problems=[norm, up | {"reads": {"a": "n"}}])[1]
        assert text.endswith("found up that reads a from n, allowed: n.sum, n.result")
        layer = read(kind="layer", name="l", problems=[norm, up | {"reads": {"a": "n.result"}}])
        assert layer.sources == ({}, {"a": Source(0, "result", 0, 8, 8)})

    def test_columns_of_the_latest_part_of_a_name(self):
        wide = {"kind": "gemm", "name": "qkv.c", "m": 2, "n": 24, "k": 8}
        up = {"kind": "gemm", "name": "up", "m": 2, "n": 3, "k": 8}
        parts = [wide, wide, up | {"reads": {"a": "qkv.c.c[8:16]", "b": "qkv.c[0:12]"}}]
        layer = read(kind="layer", name="l", problems=parts)
        assert layer.sources[2] == {"a": Source(1, "c", 8, 16, 24), "b": Source(1, "c", 0, 12, 24)}


class TestSteps:
    def test_shapes_and_macs_by_hand(self):
        problem = read(**ATTENTION | {"q_len": 1}, steps=3)
        kv_len = ATTENTION["kv_len"]
        assert problem.input_shapes["q"][1] == 3
        assert problem.input_shapes["k"][1] == kv_len
        pairs = (kv_len - 2) + (kv_len - 1) + kv_len
        assert problem.macs == 2 * problem.q_heads * problem.head_dim * pairs
        assert [problem.at_step(each).kv_len for each in range(3)] == [
            kv_len - 2,
            kv_len - 1,
            kv_len,
        ]

    @pytest.mark.parametrize(
        ("keys", "found"),
        [
            ({"q_len": 3}, "found 2 with q_len = 3 new tokens, allowed: one in a step"),
            ({"q_len": 1, "kv_len": 1}, "found 2 with kv_len = 1, allowed: up to kv_len"),
        ],
    )
    def test_a_step_has_one_new_token_and_is_in_the_cache(self, keys, found):
        assert mistake(**ATTENTION | keys, steps=2) == (
            ("attention", "steps"),
            f"Value error, {found}",
        )

    def test_a_step_of_a_list_has_one_new_token_each(self):
        assert mistake(**HEADS, sequences=MIXED, steps=2) == (
            ("attention", "steps"),
            "Value error, found 2 with a sequence of 3 new tokens, allowed: one in a step",
        )


class TestKeysAndValues:
    """K and V may have another format than Q, V another width than K, and FP8 scales."""

    def test_shapes_and_bytes_by_hand(self):
        keys = ATTENTION | {"head_dim": 192, "value_dim": 128}
        problem = read(**keys, batch=2, dtype="bf16", kv_dtype="fp8_e4m3")
        assert problem.input_shapes == {"q": (12, 3, 192), "k": (4, 5, 192), "v": (4, 5, 128)}
        assert problem.output_shapes == {"o": (12, 3, 128)}
        assert problem.tensor_bytes == {"q": 13824, "k": 3840, "v": 2560, "o": 9216}
        assert problem.compulsory_bytes == 29440
        assert problem.macs == 2 * 6 * 3 * 5 * (192 + 128)

    def test_sequences_have_the_same_rows(self):
        sequences = [{"new": 3, "cached": 2}, {"new": 1}]
        lengths = {"q_len": 3, "kv_len": 5}
        keys = {key: value for key, value in ATTENTION.items() if key not in lengths}
        problem = read(**keys, sequences=sequences, value_dim=16, kv_dtype="fp8_e5m2")
        assert problem.input_shapes == {"q": (24, 64), "k": (12, 64), "v": (12, 16)}
        assert problem.output_shapes == {"o": (24, 16)}
        assert problem.compulsory_bytes == sum(each.compulsory_bytes for each in problem.parts)

    def test_what_is_not_said_is_that_of_q(self):
        problem = read(**ATTENTION, dtype="bf16")
        assert problem.kv_format == "bf16"
        assert problem.widths == (64, 64)
        assert problem.has_plain_kv
        assert read(**ATTENTION, dtype="bf16", kv_dtype="bf16", value_dim=64).has_plain_kv
        for own in ({"value_dim": 32}, {"kv_dtype": "fp8_e4m3"}):
            assert not read(**ATTENTION, **own).has_plain_kv

    @pytest.mark.parametrize(
        ("dtype", "kv_dtype", "allowed"),
        [
            ("fp16", "bf16", "fp16, fp8_e4m3, fp8_e5m2"),
            ("bf16", "fp32", "bf16, fp8_e4m3, fp8_e5m2"),
            ("fp8_e4m3", "fp8_e5m2", "fp8_e4m3"),
        ],
    )
    def test_q_holds_what_keys_hold(self, dtype, kv_dtype, allowed):
        assert mistake(**ATTENTION, dtype=dtype, kv_dtype=kv_dtype) == (
            ("attention", "kv_dtype"),
            f"Value error, found '{kv_dtype}' with dtype = {dtype}, allowed: {allowed}",
        )

    def test_formats_are_those_of_floating_point(self):
        path, message = mistake(**ATTENTION, kv_dtype="int8")
        assert path == ("attention", "kv_dtype")
        assert message.endswith("found 'int8', allowed: fp32, bf16, fp16, fp8_e4m3, fp8_e5m2")

    def test_only_fp8_has_scales(self):
        assert read(**ATTENTION, dtype="fp8_e4m3", kv_scales="peak").kv_scales == "peak"
        assert mistake(**ATTENTION, dtype="bf16", kv_scales="peak") == (
            ("attention", "kv_scales"),
            "Value error, found 'peak' with K and V in bf16, allowed: one, or K and V in FP8",
        )
