"""Options that several commands share, and the meaning of `--set`."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.cli.console import details, messages
from accelsim.errors import FILE_ERRORS, AccelsimError, OutputError, reason_of

if TYPE_CHECKING:
    from accelsim.config.shipped import Kind
    from accelsim.library.kernels import Kernels


class OptionError(AccelsimError):
    """Options of a command that contradict each other or cannot be read."""


class Executor(StrEnum):
    """Where points run."""

    LOCAL = "local"
    DASK = "dask"


class OutputFormat(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


class Engine(StrEnum):
    """Which engine schedules the program; both give the same times."""

    COMPILED = "compiled"
    REFERENCE = "reference"


def _silence(silent: bool) -> None:
    if silent:
        messages.quiet = True


def _tell_more(verbose: bool) -> None:
    if verbose:
        details.quiet = False


def _machines(incomplete: str) -> list[str]:
    return _names("machine", incomplete)


def _workloads(incomplete: str) -> list[str]:
    return _names("workload", incomplete)


def kernels_from(incomplete: str) -> list[str]:
    """Return the names of kernels that begin so."""
    from accelsim.kernels.registry import kernel_names

    return [name for name in kernel_names() if name.startswith(incomplete)]


def _names(kind: "Kind", incomplete: str) -> list[str]:
    from accelsim.config.shipped import known_names

    return [name for name in known_names(kind) if name.startswith(incomplete)]


Machine = Annotated[
    str,
    typer.Option("--machine", "-m", help="Name or file of the machine.", autocompletion=_machines),
]
Workload = Annotated[
    str,
    typer.Option(
        "--workload", "-w", help="Name or file of the workload.", autocompletion=_workloads
    ),
]
Texts = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        help="Kind of text (reference, code, novel, legal, manual, play, science, c or all) or "
        "file; repeatable.",
        show_default=False,
    ),
]
Kernel = Annotated[
    str | None,
    typer.Option(
        "--kernel",
        "-k",
        help='The kernel, with parameters where they are given: flash or "flash(tile_q=128)".',
        show_default="what the library of the machine picks",
        autocompletion=kernels_from,
    ),
]
AttentionKernel = Annotated[
    str | None,
    typer.Option(
        "--kernel",
        "-k",
        help="Kernel for the attention, such as flash(precision=fp16); FP32 without one.",
        autocompletion=kernels_from,
    ),
]
AttentionKernels = Annotated[
    list[str] | None,
    typer.Option(
        "--kernel",
        "-k",
        help="Kernel for the attention, such as flash(precision=fp16); FP32 without one; "
        "repeatable.",
        autocompletion=kernels_from,
        show_default=False,
    ),
]
PrefillKernel = Annotated[
    str | None,
    typer.Option(
        "--prefill",
        help="Kernel for the attention of prompts, before tokens are decoded; FP32 without one.",
        autocompletion=kernels_from,
    ),
]
LinearKernel = Annotated[
    str | None,
    typer.Option(
        "--linear",
        "-l",
        help="Kernel for the linears, such as tender(activation_bits=4); FP32 without one.",
        autocompletion=kernels_from,
    ),
]
KvFormats = Annotated[
    list[str] | None,
    typer.Option(
        "--kv",
        help="Format of keys and values in the cache: fp8_e4m3(scales=head), int8, "
        "int4(group=64), ...; repeatable.",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A field of the machine or workload: workload.q_len=4096, "
        'machine.scratchpad.capacity="512 KiB". Repeatable.',
    ),
]
EngineOption = Annotated[Engine, typer.Option("--engine", help="Who schedules the program.")]
Sample = Annotated[
    str,
    typer.Option(
        "--sample",
        metavar="never|auto|SHARE",
        help="Whether a sample of a program is scheduled: never; auto, of very long ones; or a "
        "share of the ops, such as 0.05. Results are estimates then, and say so.",
    ),
]
FormatOption = Annotated[
    OutputFormat, typer.Option("--format", help="json prints nothing but JSON on stdout.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for tables and figures.")]
ExecutorOption = Annotated[Executor, typer.Option("--executor", help="Processes here, or Dask.")]
Address = Annotated[
    str | None, typer.Option(help="Scheduler of a Dask cluster; without it, a local one.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes to use.", show_default="all cores")
]
Text = Annotated[
    Path | None,
    typer.Option(help="Text to read.", show_default="the Python language reference"),
]
Model = Annotated[
    str,
    typer.Option(
        help="A model that `accelsim model fetch` has fetched, or a path: a GGUF file, or a folder "
        "with config.json."
    ),
]


@dataclass(frozen=True)
class Notes:
    """What a command says on the way; the options themselves see to it."""

    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No notes, no progress.", callback=_silence)
    ] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say more on the way.", callback=_tell_more)
    ] = False


@dataclass(frozen=True)
class Asked:
    """What is to be simulated."""

    machine: Machine
    workload: Workload
    kernel: Kernel = None
    settings: Settings = None

    @property
    def name(self) -> str:
        """What it is called while it runs."""
        return self.kernel or self.workload

    @property
    def arguments(self) -> tuple[str, str, str | None, dict[str, object]]:
        """The arguments of `simulate` and `record`; raises OptionError."""
        return self.machine, self.workload, self.kernel, parse_settings(self.settings)


@dataclass(frozen=True)
class Scheduling:
    """Who schedules a program, and how much of it."""

    engine: EngineOption = Engine.COMPILED
    sample: Sample = "never"

    @property
    def arguments(self) -> dict[str, Any]:
        """The same as arguments of `simulate`."""
        return {"engine": self.engine.value, "sample": self.sample}


@dataclass(frozen=True)
class InModel:
    """A real model with kernels in it."""

    kernel: AttentionKernel = None
    linear: LinearKernel = None
    model: Model = "smollm2"
    machine: Machine = "ascend-910b"
    settings: Settings = None

    @property
    def names(self) -> tuple[str, ...]:
        """The kernels."""
        return tuple(name for name in (self.kernel, self.linear) if name is not None)

    @property
    def arguments(self) -> tuple[str, "Kernels", dict[str, object], str]:
        """The first arguments of what runs such a model; raises an AccelsimError."""
        from accelsim.library.kernels import Kernels

        settings = parse_settings(self.settings)
        return self.model, Kernels(self.kernel, self.linear), settings, self.machine


@dataclass(frozen=True)
class Written:
    """What is read and written."""

    text: Annotated[
        str, typer.Option(help="Kind of text, or file, that the prompt is the start of.")
    ] = "reference"
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 512
    tokens: Annotated[int, typer.Option(help="Tokens to write, or some more with drafts.")] = 64
    prefill: PrefillKernel = None


def parse_settings(
    texts: Iterable[str] | None, example: str = "workload.q_len=4096"
) -> dict[str, object]:
    """Return key -> text of the `KEY=VALUE` texts; raises OptionError, which gives an example."""
    settings: dict[str, object] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise OptionError(f"--set {text}: found no key=value; allowed: --set {example}")
        if key.strip() in settings:
            raise OptionError(f"--set {key.strip()}: given twice; allowed: once")
        settings[key.strip()] = value.strip()
    return settings


def writable_folder(folder: Path) -> Path:
    """Create `folder` where needed; raise OutputError where no file can be written to it."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except FILE_ERRORS as error:
        raise OutputError(f"{folder}: cannot write to the folder: {reason_of(error)}") from error


def start_workers(executor: Executor, address: str | None, workers: int | None) -> None:
    """Let workers begin to start while a command reads its modules; raises OptionError."""
    if address is not None and executor is not Executor.DASK:
        raise OptionError("--address needs --executor dask")
    from accelsim.runtime.workers import begin_to_start

    begin_to_start(executor.value, workers)
