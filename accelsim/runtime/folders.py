"""Where accelsim keeps what it made before, for all processes of a user."""

import os
import tempfile
from functools import cache
from pathlib import Path


@cache
def kept_folder() -> Path:
    """Return the folder of all that is kept, which may be removed at any time.

    It lies in the user's cache, or in the folder for temporary files where that is read-only.
    """
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(home) / "accelsim"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.gettempdir()) / f"accelsim-{os.getuid()}"


def code_folder() -> Path:
    """Return the folder of compiled functions."""
    return kept_folder() / "jit"
