"""Compile `kernels.cu` for sm_90 and count the instructions of a thread, in all and in each loop.

Needs no GPU. Packages `nvidia-cuda-nvrtc-cu12` and `nvidia-cuda-nvdisasm` (neither is needed by
accelsim itself): see README.md.
"""

import ctypes
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("kernels.cu")
_OPTION = b"--gpu-architecture=sm_90"
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(@!?U?P\d+ )?([A-Z0-9]+)([^;]*)")


class Instruction(NamedTuple):
    """One instruction of a kernel."""

    op: str
    operands: str
    is_predicated: bool


def main() -> None:
    """Print the instructions of every kernel up to its first end, and those of its loops."""
    text = _disassembled(_compiled(SOURCE.read_bytes()))
    for part in re.split(r"^\.text\.", text, flags=re.MULTILINE)[1:]:
        code, labels = _parsed(part)
        calls = _calls(code)
        registers = 1 + max(map(int, re.findall(r"\bR(\d+)\b", part)))
        end = next(i for i, it in enumerate(code) if it.op == "EXIT" and not it.is_predicated)
        print(f"{part.partition(':')[0]}: {_count(0, end, calls)} in all, {registers} registers")
        for i, it in enumerate(code[:end]):
            target = re.search(r"L_x_\d+", it.operands) if it.op == "BRA" else None
            if target and labels[target[0]] <= i:
                most = Counter(code[j].op for j in range(labels[target[0]], i + 1)).most_common(8)
                print(
                    f"  loop of {_count(labels[target[0]], i, calls)}:",
                    ", ".join(f"{op} {n}" for op, n in most),
                )


def _parsed(part: str) -> tuple[list[Instruction], dict[str, int]]:
    """Return the instructions of a kernel, and label -> place of the instruction behind it."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in part.splitlines():
        if found := re.match(r"\.(L_x_\d+):", line):
            labels[found[1]] = len(code)
        elif (found := _INSTRUCTION.search(line)) and found[2] != "NOP":
            code.append(Instruction(found[2], found[3], bool(found[1])))
    return code, labels


def _calls(code: list[Instruction]) -> set[int]:
    """Return the places of calls for denormal divisors, of what prepares them and leads back."""
    places = set()
    for i, it in enumerate(code):
        if it.op == "CALL":
            first = i
            while code[first - 1].op == "MOV" and "0x" in code[first - 1].operands:
                first -= 1
            back = code[i + 1].op == "BRA" and not code[i + 1].is_predicated
            places.update(range(first, i + 1 + back))
    return places


def _count(first: int, last: int, calls: set[int]) -> int:
    return sum(i not in calls for i in range(first, last + 1))


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


if __name__ == "__main__":
    main()
