"""The files that parameters of kernels name: those declared as a Path."""

from pathlib import Path

from accelsim.config.shipped import shipped_folder
from accelsim.workload.archives import find_file


def find_parameter_file(path: Path) -> Path:
    """Return the file at `path`, relative to the shipped workloads or to the working directory.

    Raises WorkloadError if there is none.
    """
    return find_file(str(path), shipped_folder("workload"))
