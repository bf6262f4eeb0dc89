"""Choices that were made before, in this process or in another one.

A choice is known by the content of all that it follows from, and by a digest of the sources that
can move it. Names of problems and machines are no part of that.
"""

import json

from accelsim.choosing.asked import Asked, Settings
from accelsim.runtime.on_disk import keep, kept, name_of

_KIND = "choices"
_MOST = 4096
"""Choices that a process holds; then all are forgotten."""
_held: dict[tuple[str, ...], Settings] = {}


def known_settings(asked: Asked) -> Settings | None:
    """Return what was chosen before; None if nothing was."""
    content = asked.content
    if content not in _held:
        text = kept(_KIND, name_of(*content))
        if text is None:
            return None
        _hold(content, json.loads(text))
    return _held[content]


def remember(asked: Asked, settings: Settings) -> None:
    """Remember what was chosen."""
    content = asked.content
    _hold(content, settings)
    keep(_KIND, name_of(*content), json.dumps(settings))


def forget() -> None:
    """Hold nothing any more in this process."""
    _held.clear()


def _hold(content: tuple[str, ...], settings: Settings) -> None:
    if len(_held) >= _MOST:
        _held.clear()
    _held[content] = settings
