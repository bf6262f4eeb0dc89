"""What pydantic found, said in terms of the file: place, key, what was found, what is allowed."""

import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from accelsim.config.document import Document, KeyPath
from accelsim.config.schema import schema_at
from accelsim.errors import did_you_mean

_QUOTED = re.compile(r"'([^']*)'")
_LONGEST_SHOWN = 60
_PLAINER = {
    "an object": "a mapping",
    "a valid dictionary or object to extract fields from": "a mapping",
    "a valid array": "a list",
    "a valid tuple": "a list",
    "a valid boolean": "true or false",
}
"""What pydantic expects, in the words of a YAML file."""


def explain(error: ValidationError, document: Document, adapter: TypeAdapter[Any]) -> list[str]:
    """Return one message per mistaken value, in the order of the model's fields."""
    texts: dict[KeyPath, str] = {}
    for detail in error.errors(include_url=False):
        if _has_mistaken_members(detail):
            continue
        path, text = _path(detail, document), _text(detail, document, adapter)
        # Two findings about one value are the branches of a union: either would be right.
        texts[path] = f"{texts[path]}; or: {text}" if path in texts else text
    return [document.message(path, text) for path, text in texts.items()]


def _has_mistaken_members(detail: Any) -> bool:
    """Whether what is called too short only has members that are told of already."""
    is_short = detail["type"] == "too_short"
    return is_short and bool(len(detail["input"]) >= detail["ctx"]["min_length"])


def _path(detail: Any, document: Document) -> KeyPath:
    """Key path in the document: pydantic's location without the names of union branches."""
    path: KeyPath = ()
    last = len(detail["loc"]) - 1
    for position, part in enumerate(detail["loc"]):
        parent = document.at(path)
        is_missing_key = position == last and detail["type"] == "missing"
        if is_missing_key or (isinstance(parent, dict | list) and _has(parent, part)):
            path = (*path, part)
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path = (*path, detail["ctx"]["discriminator"].strip("'()"))
    return path


def _has(parent: dict[str, Any] | list[Any], part: str | int) -> bool:
    return part in parent if isinstance(parent, dict) else isinstance(part, int)


def _text(detail: Any, document: Document, adapter: TypeAdapter[Any]) -> str:
    location, context = detail["loc"], detail.get("ctx", {})
    found = show(document.at(_path(detail, document)))
    match detail["type"]:
        case "extra_forbidden":
            text = _unknown_key(location, adapter)
        case "missing":
            text = _missing_key(location, adapter)
        case "union_tag_not_found":
            tags = schema_at(adapter, location).get("discriminator", {}).get("mapping", {})
            text = f"missing; allowed: {', '.join(map(repr, tags))}" if tags else "missing"
        case "union_tag_invalid":
            text = _choice(found, context["tag"], context["expected_tags"])
        case "enum" | "literal_error":
            name = location[-2] if location[-1] == "[key]" else detail["input"]
            text = _choice(show(name), str(name), context["expected"])
        case "value_error":
            text = str(context["error"])
        case "too_short":
            found_items, least = context["actual_length"], context["min_length"]
            text = f"found a list of {found_items}, expected at least {least}"
        case _:
            text = _expectation(found, detail["msg"])
    return text


def _unknown_key(location: tuple[str | int, ...], adapter: TypeAdapter[Any]) -> str:
    known = schema_at(adapter, location[:-1]).get("properties", {})
    if location[-1] in known:
        return "can only be said in a file"
    hint = did_you_mean(str(location[-1]), known)
    return f"unknown key{hint}; allowed: {', '.join(known)}" if known else "unknown key"


def _missing_key(location: tuple[str | int, ...], adapter: TypeAdapter[Any]) -> str:
    known = schema_at(adapter, location[:-1]).get("properties", {})
    description = known.get(location[-1], {}).get("description")
    return f"missing; expected: {description}" if description else "missing"


def _choice(found: str, name: str, expected: str) -> str:
    return f"found {found}{did_you_mean(name, _QUOTED.findall(expected))}; allowed: {expected}"


def _expectation(found: str, message: str) -> str:
    expected = message.removeprefix("Input should be ")
    if expected == message:
        return f"found {found}; {message[0].lower()}{message[1:]}"
    expected = _PLAINER.get(expected, expected)
    noun = "a value " if expected.startswith(("greater", "less")) else ""
    return f"found {found}, expected {noun}{expected}"


def show(value: Any) -> str:
    """Return `value` as a message names it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
