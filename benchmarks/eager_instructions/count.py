"""Compile `kernels.cu` for sm_90 and count the instructions of each block of its code.

Needs no GPU. Packages `nvidia-cuda-nvrtc-cu12` and `nvidia-cuda-nvdisasm` (neither is needed by
accelsim itself): see README.md.
"""

import ctypes
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("kernels.cu")
_OPTION = b"--gpu-architecture=sm_90"
_FEWEST = 6
"""Blocks shorter than this are left out of the list, but not out of the sums."""


def main() -> None:
    """Print every kernel's blocks of code, with the most frequent instructions."""
    text = _disassembled(_compiled(SOURCE.read_bytes()))
    for kernel, blocks, registers in _kernels(text):
        total = sum(len(ops) for ops in blocks.values())
        print(f"{kernel}: {total} instructions, {registers} registers")
        for label, ops in blocks.items():
            if len(ops) >= _FEWEST:
                most = ", ".join(f"{op} {n}" for op, n in Counter(ops).most_common(8))
                print(f"  {label:<10} {len(ops):4}  {most}")


def _package(folder: str, name: str) -> Path:
    """Return a file of one of NVIDIA's packages beside the interpreter's others."""
    for path in map(Path, sys.path):
        for found in sorted((path / "nvidia").glob(f"{folder}/{name}")):
            return found
    sys.exit(f"no {name} found; install the packages that README.md names")


def _compiled(source: bytes) -> bytes:
    library = ctypes.CDLL(str(_package("cuda_nvrtc/lib", "libnvrtc.so.12")))
    program = ctypes.c_void_p()
    new = (ctypes.byref(program), source, b"kernels.cu", 0, None, None)
    _call(library, "nvrtcCreateProgram", *new)
    if library.nvrtcCompileProgram(program, 1, (ctypes.c_char_p * 1)(_OPTION)):
        sys.exit(_text(library, program, "ProgramLog").decode())
    return _text(library, program, "CUBIN")


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _call(library, f"nvrtcGet{what}Size", program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    _call(library, f"nvrtcGet{what}", program, text)
    return text.raw


def _call(library: ctypes.CDLL, name: str, *arguments: Any) -> None:
    """Call a function of the compiler; one that fails ends the script with its name and why."""
    if code := getattr(library, name)(*arguments):
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        sys.exit(f"{name}: {library.nvrtcGetErrorString(code).decode()}")


def _disassembled(binary: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [str(_package("cu1*/bin", "nvdisasm")), "-c", file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _kernels(text: str) -> Iterator[tuple[str, dict[str, list[str]], int]]:
    """Yield (kernel, label -> instructions without predicates, registers)."""
    for part in re.split(r"^\.text\.", text, flags=re.MULTILINE)[1:]:
        blocks: dict[str, list[str]] = {"entry": []}
        label, highest = "entry", 0
        for line in part.splitlines()[1:]:
            if found := re.match(r"\.(L_x_\d+):", line):
                label = found[1]
                blocks[label] = []
            elif found := re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z0-9]+)", line):
                if found[1] != "NOP":
                    blocks[label].append(found[1])
                highest = max([highest, *map(int, re.findall(r"\bR(\d+)\b", line))])
        yield part.partition(":")[0], blocks, highest + 1


if __name__ == "__main__":
    main()
