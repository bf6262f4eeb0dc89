import struct

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.errors import WorkloadError
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.gguf_model import read_gguf_weights
from accelsim.workload.model.tokenizer import gguf_tokenizer


def header(num_tensors=0, num_fields=0, magic=b"GGUF", version=3):
    return magic + struct.pack("<IQQ", version, num_tensors, num_fields)


def text(value):
    return struct.pack("<Q", len(value)) + value


def message(function, *arguments):
    with pytest.raises(WorkloadError) as raised:
        function(*arguments)
    return str(raised.value)


def damage(tmp_path, content):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    prefix = f"{path}: damaged or not a GGUF file: "
    found = message(GgufFile, path)
    assert found.startswith(prefix)
    return found.removeprefix(prefix)


def test_metadata_and_tensors_are_those_written(tiny, tiny_path):
    file = GgufFile(tiny_path)
    assert file.value("llama.block_count", int) == 2
    assert file.value("llama.rope.freq_base", float) == 1e4
    assert file.value("tokenizer.ggml.merges", list) == tiny.metadata["tokenizer.ggml.merges"]
    norm = tiny.tensors["output_norm.weight"]
    np.testing.assert_array_equal(file.read("output_norm.weight", norm.shape), norm)


@pytest.mark.parametrize("name", ["token_embd.weight", "blk.1.ffn_down.weight"])
def test_quantized_tensors_come_back_within_a_step(tiny, tiny_path, name):
    written = tiny.tensors[name]
    read = GgufFile(tiny_path).read(name, written.shape)
    bits = {"Q8_0": 7, "Q4_1": 3}[tiny.types[name]]
    assert read.dtype == np.float32
    assert 0 < np.abs(read - written).max() < 1.1 * np.abs(written).max() / 2**bits / 2


def test_our_header_agrees_with_the_reader_of_the_gguf_package(tiny_path):
    ours, theirs = GgufFile(tiny_path), gguf.GGUFReader(tiny_path)
    assert list(ours.tensors) == [each.name for each in theirs.tensors]
    for each in theirs.tensors:
        dequantized = gguf.dequantize(each.data, each.tensor_type)
        np.testing.assert_array_equal(ours.read(each.name, dequantized.shape), dequantized)


def test_a_missing_file(tmp_path):
    path = tmp_path / "x.gguf"
    assert message(GgufFile, path) == (
        f"{path}: cannot be read ([Errno 2] No such file or directory: '{path}')"
    )


def test_an_empty_file(tmp_path):
    path = tmp_path / "x.gguf"
    path.touch()
    assert message(GgufFile, path) == f"{path}: cannot be read (cannot mmap an empty file)"


def test_another_kind_of_file(tmp_path):
    assert damage(tmp_path, b"\x80\x04pickled") == "it begins with b'\\x80\\x04pi'"


def test_another_version(tmp_path):
    assert damage(tmp_path, header(version=1)) == "version is 1, allowed: 2, 3"


def test_a_header_that_ends_early(tmp_path):
    assert damage(tmp_path, header()[:20]) == "a number at byte 16 has 8 bytes, 4 are left"


def test_a_text_longer_than_the_file(tmp_path):
    content = header(num_fields=1) + struct.pack("<Q", 2**60) + b"abc"
    assert damage(tmp_path, content) == (
        "a key at byte 32 has 1152921504606846976 bytes, 3 are left"
    )


def test_an_array_longer_than_the_file(tmp_path):
    content = header(num_fields=1) + text(b"k") + struct.pack("<IIQ", 9, 4, 2**61)
    assert damage(tmp_path, content) == (
        "a number at byte 49 has 9223372036854775808 bytes, 0 are left"
    )


def test_an_array_of_more_texts_than_fit(tmp_path):
    content = header(num_fields=1) + text(b"k") + struct.pack("<IIQ", 9, 8, 2**61) + text(b"ab")
    assert damage(tmp_path, content) == "a number at byte 59 has 8 bytes, 0 are left"


@pytest.mark.parametrize("kind", [9, 99])
def test_an_unknown_field_type(tmp_path, kind):
    content = header(num_fields=1) + text(b"k") + struct.pack("<IIQ", 9, kind, 1)
    assert damage(tmp_path, content) == f"a field before byte 49 has type {kind}"


def test_a_text_that_is_no_text(tmp_path):
    content = header(num_fields=1) + text(b"\xff")
    assert damage(tmp_path, content) == "a key before byte 33 is not UTF-8"


@pytest.mark.parametrize("dimensions", [0, 5])
def test_an_impossible_number_of_dimensions(tmp_path, dimensions):
    content = header(num_tensors=1) + text(b"t") + struct.pack("<I", dimensions)
    assert damage(tmp_path, content) == f"tensor 't' has {dimensions} dimensions"


def test_an_impossible_alignment(tmp_path):
    content = header(num_fields=1) + text(b"general.alignment") + struct.pack("<II", 4, 0)
    assert damage(tmp_path, content) == "general.alignment is 0"


def test_metadata_of_another_type(tiny_path):
    file = GgufFile(tiny_path)
    assert message(file.value, "llama.block_count", str) == (
        f"{tiny_path}: metadata 'llama.block_count' is of type int, expected str"
    )
    assert message(file.value, "none", list) == (
        f"{tiny_path}: metadata 'none' is missing, expected list"
    )


def test_a_missing_tensor(tiny_path):
    assert message(GgufFile(tiny_path).read, "t", (1,)) == f"{tiny_path}: tensor 't' is missing"


def test_a_tensor_of_another_shape(tiny_path):
    assert message(GgufFile(tiny_path).read, "output_norm.weight", (8, 8)) == (
        f"{tiny_path}: tensor 'output_norm.weight' has shape [64], expected [8, 8]"
    )


def test_a_weight_that_is_not_finite(tiny, tmp_path):
    tiny.tensors["output_norm.weight"][3] = np.nan
    path = tiny.write(tmp_path / "x.gguf")
    assert message(GgufFile(path).read, "output_norm.weight", (64,)) == (
        f"{path}: tensor 'output_norm.weight' holds values that are not finite"
    )


def test_a_tensor_format_that_is_not_read(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(
        header(num_tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 32, 20, 0) + bytes(100)
    )
    assert message(GgufFile(path).read, "t", (32,)) == (
        f"{path}: tensor 't' has GGML type 20, allowed: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, "
        "Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, BF16"
    )


def test_rows_that_are_no_whole_blocks(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(
        header(num_tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 33, 8, 0) + bytes(100)
    )
    assert message(GgufFile(path).read, "t", (33,)) == (
        f"{path}: tensor 't' has rows of 33 elements, allowed for Q8_0: multiples of 32"
    )


def test_a_truncated_model(tiny_path):
    size = tiny_path.stat().st_size
    tiny_path.write_bytes(tiny_path.read_bytes()[:-100])
    assert message(read_gguf_weights, GgufFile(tiny_path)) == (
        f"{tiny_path}: damaged or truncated: tensor 'output_norm.weight' ends at byte "
        f"{size}, the file has {size - 100}"
    )


def test_a_tensor_that_begins_beyond_the_file(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(header(num_tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 2, 0, 2**63))
    assert message(GgufFile(path).read, "t", (2,)) == (
        f"{path}: damaged or truncated: tensor 't' ends at byte {2**63 + 64 + 8}, the file has 57"
    )


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_damaged_file_is_read_or_reported_but_never_crashes(data, tiny_path):
    original = tiny_path.read_bytes()
    content = bytearray(original)
    place = data.draw(st.integers(0, 60_000))
    content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(1, len(content)))]
    damaged = tiny_path.with_name("damaged.gguf")
    damaged.write_bytes(content)
    report = str(damaged)
    try:
        file = GgufFile(damaged)
        read_gguf_weights(file)
        gguf_tokenizer(file)
    except WorkloadError as error:
        report = str(error)
    assert str(damaged) in report
