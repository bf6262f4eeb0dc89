import hashlib

import numpy as np
import pytest
from pydantic import TypeAdapter

from accelsim.errors import InputRangeWarning, WorkloadError
from accelsim.workload import tensors
from accelsim.workload.problem import Workload
from accelsim.workload.tensors import (
    AttentionTensors,
    GemmTensors,
    load_counted_tensors,
    load_tensors,
)

WORKLOAD = TypeAdapter(Workload)


def attention(source, **keys):
    shape = {"q_heads": 4, "kv_heads": 2, "head_dim": 8, "q_len": 3, "kv_len": 5}
    return WORKLOAD.validate_python(
        {"kind": "attention", "name": "x", "tensors": source} | shape | keys
    )


def gemm(source, **keys):
    return WORKLOAD.validate_python(
        {"kind": "gemm", "name": "x", "m": 300, "n": 200, "k": 100, "tensors": source} | keys
    )


def message(problem, folder):
    with pytest.raises(WorkloadError) as raised:
        load_tensors(problem, folder)
    return str(raised.value)


def save(path, **arrays):
    np.savez(path, **arrays)


def operands(tensors):
    return tensors.a, tensors.b


def digest(arrays):
    return hashlib.sha256(b"".join(each.tobytes() for each in arrays)).hexdigest()[:16]


def test_no_source_means_no_tensors(tmp_path):
    assert load_tensors(gemm(None), tmp_path) is None


@pytest.mark.parametrize(
    ("dtype", "text", "stored"),
    [
        ("fp8_e4m3", "beyond 448, the largest number of fp8_e4m3, saturate", 448),
        ("fp16", "beyond 65504, the largest number of fp16, become infinite", np.inf),
    ],
)
def test_values_beyond_the_format_are_counted_and_told(tmp_path, dtype, text, stored):
    a, b = np.ones((300, 100)), np.ones((100, 200))
    a[:2, 0], b[0, 0] = 1e6, -1e6
    save(tmp_path / "x.npz", a=a, b=b)
    problem = gemm({"source": "file", "path": "x.npz"}, dtype=dtype)
    with pytest.warns(InputRangeWarning) as warned:
        loaded, count = load_counted_tensors(problem, tmp_path)
    assert [str(each.message) for each in warned] == [
        f"workload 'x': values {text}: 2 of 30000 in a, 1 of 20000 in b"
    ]
    assert count == 3
    assert loaded.a[:3, 0].tolist() == [stored, stored, 1]
    assert loaded.b[0, 0] == -stored


def test_values_within_the_format_are_not_told_of(tmp_path):
    save(tmp_path / "x.npz", a=np.full((300, 100), 464.0), b=np.full((100, 200), np.nan))
    problem = gemm({"source": "file", "path": "x.npz"}, dtype="fp8_e4m3")
    assert load_counted_tensors(problem, tmp_path)[1] == 0


def test_seeded_attention_has_the_shapes_of_the_problem(tmp_path):
    loaded = load_tensors(attention({"source": "uniform"}, batch=2), tmp_path)
    assert isinstance(loaded, AttentionTensors)
    assert [each.shape for each in loaded[:3]] == [(8, 3, 8), (4, 5, 8), (4, 5, 8)]
    assert {each.dtype for each in loaded[:3]} == {np.dtype(np.float32)}
    assert loaded[3:5] == (1.0, 1.0)


def test_uniform_values_fill_their_range(tmp_path):
    source = {"source": "uniform", "mean": 3, "amplitude": 2}
    a, b = operands(load_tensors(gemm(source, dtype="fp32"), tmp_path))
    for values in (a, b):
        assert 1 <= values.min() < 1.01
        assert 4.99 < values.max() <= 5
        # The mean of n uniform values has standard deviation 2 * amplitude / sqrt(12 n).
        assert abs(values.mean() - 3) < 5 * 4 / np.sqrt(12 * values.size)


def test_hybrid_values_are_normal_with_rare_outliers(tmp_path):
    source = {"source": "hybrid", "mean": 10, "amplitude": 1000}
    a, b = operands(load_tensors(gemm(source, dtype="fp32"), tmp_path))
    values = np.concatenate([a.ravel(), b.ravel()]) - 10
    outliers = np.abs(values) > 6
    # 50 of 50,000 values are expected; nearly all of them lie beyond 6 of 1000.
    assert 50 - 5 * np.sqrt(50) < outliers.sum() < 50 + 5 * np.sqrt(50)
    assert abs(values[~outliers].std() - 1) < 5 / np.sqrt(2 * values.size)


@pytest.mark.parametrize(
    ("family", "expected"), [("uniform", "b219af8a66756344"), ("hybrid", "c92cb3dcf87eae5e")]
)
def test_the_same_seed_gives_the_same_values_everywhere(tmp_path, family, expected):
    problem = gemm({"source": family, "seed": 7})
    assert digest(operands(load_tensors(problem, tmp_path))) == expected
    assert digest(operands(load_tensors(problem, tmp_path))) == expected


def test_another_seed_and_another_tensor_give_other_values(tmp_path):
    square = {"m": 8, "n": 8, "k": 8}
    a, b = operands(load_tensors(gemm({"source": "uniform", "seed": 1}, **square), tmp_path))
    other = load_tensors(gemm({"source": "uniform", "seed": 2}, **square), tmp_path).a
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, other)


def test_values_are_rounded_to_the_format(tmp_path):
    a = load_tensors(gemm({"source": "uniform"}, dtype="fp16"), tmp_path).a
    np.testing.assert_array_equal(a, a.astype(np.float16))


def test_integer_formats_give_codes(tmp_path):
    loaded = load_tensors(gemm({"source": "hybrid"}, dtype="int8"), tmp_path)
    assert isinstance(loaded, GemmTensors)
    assert {each.dtype for each in operands(loaded)} == {np.dtype(np.int32)}
    assert [np.abs(each).max() for each in operands(loaded)] == [127, 127]
    assert (loaded.linear, loaded.model) == (None, None)


@pytest.mark.parametrize("lead", [(4,), (2, 2)])
def test_files_may_keep_batch_and_heads_apart(tmp_path, lead):
    q = np.arange(4 * 3 * 8.0).reshape(*lead, 3, 8)
    k = np.ones((2, 5, 8))
    save(tmp_path / "t.npz", **{"l1.q": q, "l1.k": k, "l1.v": k})
    source = {"source": "file", "path": "t.npz", "prefix": "l1."}
    loaded = load_tensors(attention(source, batch=2, q_heads=2, kv_heads=1), tmp_path)
    np.testing.assert_array_equal(loaded.q, q.reshape(4, 3, 8))


def test_values_that_are_not_finite_are_kept(tmp_path):
    save(tmp_path / "t.npz", a=np.array([[np.nan, np.inf]]), b=np.ones((2, 1)))
    a = load_tensors(gemm({"source": "file", "path": "t.npz"}, m=1, n=1, k=2), tmp_path).a
    np.testing.assert_array_equal(a, [[np.nan, np.inf]])


def test_shapes_that_contradict_the_workload(tmp_path):
    save(tmp_path / "t.npz", q=np.ones((4, 3, 9)))
    assert message(attention({"source": "file", "path": "t.npz"}), tmp_path) == (
        f"workload 'x': {tmp_path}/t.npz: array 'k' is missing; the file holds q"
    )
    save(tmp_path / "t.npz", q=np.ones((4, 3, 9)), k=np.ones((2, 5, 8)), v=np.ones((2, 5, 8)))
    assert message(attention({"source": "file", "path": "t.npz"}), tmp_path) == (
        f"workload 'x': {tmp_path}/t.npz: array 'q' has shape [4, 3, 9], "
        "the workload says [4, 3, 8] or [1, 4, 3, 8]"
    )


def test_a_missing_file_says_where_it_was_sought(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message(gemm({"source": "file", "path": "t.npz"}), tmp_path) == (
        f"workload 'x': found no file 't.npz' in {tmp_path}"
    )


def test_an_array_that_the_format_cannot_hold_is_named(tmp_path):
    save(tmp_path / "t.npz", a=np.ones((1, 1)), b=np.array([[300]]))
    problem = gemm({"source": "file", "path": "t.npz"}, m=1, n=1, k=1, dtype="int8")
    assert message(problem, tmp_path) == (
        "workload 'x': array 'b': found integers from 300 to 300, allowed for int8: -128 to 127"
    )


def test_tensors_beyond_memory_are_refused_before_they_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "machine_memory_bytes", lambda: 399_999)
    assert message(gemm({"source": "uniform"}), tmp_path) == (
        "workload 'x': tensors a, b take 400000 bytes while they are made, "
        "more than the 399999 bytes of memory here"
    )


class TestKeysAndValues:
    """Each tensor is rounded to its own format, K and V divided by their scales before."""

    def save_cache(self, tmp_path, **arrays):
        shapes = {"q": (4, 3, 8), "k": (2, 5, 8), "v": (2, 5, 6)}
        values = {name: np.ones(shape) for name, shape in shapes.items()}
        for name, value in arrays.items():
            values[name][0, 0, 0] = value
        save(tmp_path / "x.npz", **values)

    def problem(self, **keys):
        source = {"source": "file", "path": "x.npz"}
        return attention(source, dtype="bf16", kv_dtype="fp8_e4m3", value_dim=6, **keys)

    def test_every_tensor_has_its_own_format(self, tmp_path):
        self.save_cache(tmp_path, q=1 + 2.0**-7, k=1 + 2.0**-4, v=1 + 2.0**-3)
        loaded = load_tensors(self.problem(), tmp_path)
        firsts = [float(each[0, 0, 0]) for each in loaded[:3]]
        assert firsts == [1 + 2.0**-7, 1, 1 + 2.0**-3]

    def test_values_beyond_their_own_format_are_told_of(self, tmp_path):
        self.save_cache(tmp_path, q=1000, k=1000, v=-600)
        text = "workload 'x': values beyond 448, the largest number of fp8_e4m3, saturate: "
        with pytest.warns(InputRangeWarning) as warned:
            loaded, count = load_counted_tensors(self.problem(), tmp_path)
        assert [str(each.message) for each in warned] == [text + "1 of 80 in k, 1 of 60 in v"]
        assert (count, loaded.q[0, 0, 0], loaded.k[0, 0, 0]) == (2, 1000, 448)

    def test_a_scale_brings_the_peak_to_the_largest_number(self, tmp_path):
        self.save_cache(tmp_path, k=-896, v=np.inf)
        with pytest.warns(InputRangeWarning, match="1 of 60 in v"):
            loaded, count = load_counted_tensors(self.problem(kv_scales="peak"), tmp_path)
        assert (loaded.k_scale, loaded.v_scale) == (2, np.float32(1 / 448))
        assert (loaded.k[0, 0, 0], loaded.k[0, 0, 1]) == (-448, 0.5)
        assert (loaded.v[0, 0, 1], count) == (448, 1)

    def test_zeros_have_the_scale_one(self, tmp_path):
        shapes = {"q": (4, 3, 8), "k": (2, 5, 8), "v": (2, 5, 6)}
        save(tmp_path / "x.npz", **{name: np.zeros(shape) for name, shape in shapes.items()})
        loaded = load_tensors(self.problem(kv_scales="peak"), tmp_path)
        assert loaded[3:5] == (1.0, 1.0)
