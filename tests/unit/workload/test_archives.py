import errno
import io
import json
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.errors import OutputError, ShortageError, WorkloadError
from accelsim.workload.archives import find_file, read_arrays, write_arrays
from accelsim.workload.extras import import_extra

A = np.arange(6, dtype=np.float32).reshape(2, 3)
WANTED = {"a": ((2, 3),)}


def message(function, *arguments):
    with pytest.raises(WorkloadError) as raised:
        function(*arguments)
    return str(raised.value)


def write_safetensors(path, type_name, data, shape):
    header = json.dumps(
        {"a": {"dtype": type_name, "shape": shape, "data_offsets": [0, len(data)]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_what_is_written_is_read(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    write_arrays(path, {"a": A, "layer1.b": A.T})
    read = read_arrays(path, {"layer1.b": ((3, 2),), "a": ((6,), (2, 3))})
    np.testing.assert_array_equal(read["a"], A)
    np.testing.assert_array_equal(read["layer1.b"], A.T)


def test_safetensors_may_hold_bfloat16(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, "BF16", A.astype(ml_dtypes.bfloat16).tobytes(), [2, 3])
    np.testing.assert_array_equal(read_arrays(path, WANTED)["a"].astype(np.float32), A)


@pytest.mark.parametrize(
    ("type_name", "dtype"),
    [("F8_E4M3", ml_dtypes.float8_e4m3fn), ("F8_E5M2", ml_dtypes.float8_e5m2)],
)
def test_safetensors_may_hold_fp8(tmp_path, type_name, dtype):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, type_name, A.astype(dtype).tobytes(), [2, 3])
    np.testing.assert_array_equal(read_arrays(path, WANTED)["a"].astype(np.float32), A)


def test_another_ending_is_refused(tmp_path):
    path = tmp_path / "x.pickle"
    expected = f"{path}: found the ending '.pickle', allowed: .npz, .safetensors"
    assert message(read_arrays, path, WANTED) == expected
    assert message(write_arrays, path, {"a": A}) == expected


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_a_missing_array_is_named_with_those_found(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    write_arrays(path, {"b": A, "c": A})
    assert message(read_arrays, path, WANTED) == (
        f"{path}: array 'a' is missing; the file holds b, c"
    )


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_another_shape_is_refused(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    write_arrays(path, {"a": A})
    assert message(read_arrays, path, {"a": ((3, 2), (1, 3, 2))}) == (
        f"{path}: array 'a' has shape [2, 3], the workload says [3, 2] or [1, 3, 2]"
    )


@pytest.mark.parametrize(
    ("values", "type_name"), [(A.astype(object), "object"), (A.astype(complex), "complex128")]
)
def test_npz_holds_numbers_only(tmp_path, values, type_name):
    path = tmp_path / "x.npz"
    np.savez(path, a=values)
    assert message(read_arrays, path, WANTED) == (
        f"{path}: array 'a' has type {type_name}, allowed: integers and floats"
    )


def test_safetensors_holds_numbers_only(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, "BOOL", bytes(6), [2, 3])
    assert message(read_arrays, path, WANTED) == (
        f"{path}: array 'a' has type BOOL, "
        "allowed: F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U8"
    )


def test_a_truncated_npz_is_reported(tmp_path):
    path = tmp_path / "x.npz"
    write_arrays(path, {"a": A})
    path.write_bytes(path.read_bytes()[:-40])
    assert message(read_arrays, path, WANTED) == (
        f"{path}: damaged or not an npz file (File is not a zip file)"
    )


def test_a_damaged_byte_in_an_npz_is_reported(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=A)
    data = bytearray(path.read_bytes())
    data[data.index(A.tobytes()) + 4] ^= 1
    path.write_bytes(data)
    assert message(read_arrays, path, WANTED) == (
        f"{path}: damaged or not an npz file (Bad CRC-32 for file 'a.npy')"
    )


def test_a_header_that_promises_more_than_the_file_holds(tmp_path):
    path = tmp_path / "x.npz"
    content = io.BytesIO()
    np.save(content, A)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content.getvalue()[:-4])
    assert message(read_arrays, path, WANTED) == (
        f"{path}: damaged or not an npz file (array 'a' has 20 bytes of data, its header says 24)"
    )


def test_an_unknown_npy_version_is_reported(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x09\x00" + bytes(20))
    assert message(read_arrays, path, WANTED) == (
        f"{path}: damaged or not an npz file (version (9, 0) of the npy format)"
    )


@pytest.mark.parametrize("header", [b"(" * 9000, b"-" * 9000 + b"1"])
def test_a_header_that_overwhelms_the_parser(tmp_path, header):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + header)
    assert message(read_arrays, path, WANTED) == (
        f"{path}: damaged or not an npz file (unreadable npy header)"
    )


def test_a_member_that_is_no_array_is_not_listed(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"text")
    assert message(read_arrays, path, WANTED) == (
        f"{path}: array 'a' is missing; the file holds nothing"
    )


def test_a_truncated_safetensors_is_reported(tmp_path):
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"a": A})
    path.write_bytes(path.read_bytes()[:-4])
    assert message(read_arrays, path, WANTED) == (
        f"{path}: damaged or not a safetensors file (array 'a' lies outside the file)"
    )


def test_an_unwritable_place_is_reported(tmp_path):
    path = tmp_path / "missing" / "x.npz"
    with pytest.raises(OutputError) as raised:
        write_arrays(path, {"a": A})
    assert str(raised.value) == (
        f"{path}: cannot be written ([Errno 2] No such file or directory: '{path}')"
    )


def test_files_are_found_beside_the_workload_before_the_working_directory(tmp_path, monkeypatch):
    here, folder = tmp_path / "here", tmp_path / "folder"
    for place in (here, folder):
        place.mkdir()
        (place / "both").touch()
    (here / "only").touch()
    monkeypatch.chdir(here)
    assert find_file("both", folder) == folder / "both"
    assert find_file("only", folder) == here / "only"
    assert find_file(str(here / "both"), folder) == here / "both"
    assert message(find_file, "none", folder) == (f"found no file 'none' in {folder} nor {here}")


def test_a_missing_package_says_how_to_install_it():
    with pytest.raises(ShortageError) as raised:
        import_extra("no_such_package", "a GGUF model")
    assert str(raised.value) == (
        "a GGUF model needs the package 'no_such_package': pip install 'accelsim[models]'"
    )


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_a_file_that_cannot_be_read_now_is_not_damaged(tmp_path, monkeypatch, ending):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(b"as it should be")

    def refuse(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(ShortageError) as raised:
        read_arrays(path, WANTED)
    assert str(raised.value) == f"{path}: cannot be read ([Errno 24] Too many open files)"


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_damaged_file_is_read_or_reported_but_never_crashes(data, tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    write_arrays(path, {"a": A, "b": A})
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    report = str(path)
    try:
        read_arrays(path, WANTED)
    except WorkloadError as error:
        report = str(error)
    assert str(path) in report


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the header is longer than the file"),
        (struct.pack("<Q", 2**63), "the header is longer than the file"),
        (struct.pack("<Q", 2) + b"[]", "the header is not a mapping"),
        (struct.pack("<Q", 3) + b"\xff\xfe\xfd", "the header is not JSON"),
        (struct.pack("<Q", 7) + b'{"a":1}', "array 'a' is not described"),
    ],
)
def test_a_damaged_safetensors_header_is_reported(tmp_path, content, reason):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert message(read_arrays, path, WANTED) == (
        f"{path}: damaged or not a safetensors file ({reason})"
    )


def test_a_safetensors_array_of_too_few_bytes_is_reported(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, "F32", bytes(20), [2, 3])
    assert message(read_arrays, path, WANTED) == (
        f"{path}: damaged or not a safetensors file (20 bytes for an array of 24 bytes)"
    )


def test_safetensors_are_read_without_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"a": A})
    monkeypatch.setitem(sys.modules, "safetensors", None)
    np.testing.assert_array_equal(read_arrays(path, WANTED)["a"], A)
