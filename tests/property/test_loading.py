"""No text makes the loader do anything but return a spec or raise its own error."""

from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from accelsim.config.document import parse
from accelsim.config.loader import validate
from accelsim.config.shipped import locate
from accelsim.errors import ConfigError
from accelsim.hardware.machine import MachineSpec

MACHINE_TEXT = Path(locate("edge-npu", "machine")).read_text()
yaml_like = st.text(alphabet="ab1.-:?,[]{}&*!|>'\"%@#~ \t\n\u00e9\ud800\x00", max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
keys = st.sampled_from(
    ["clock", "cube", "cube.rates", "cube.rates.fp16", "load.in_flight", "hbm.x"]
)


def place(line: int, column: int) -> str:
    return f"m.yaml:{line}:{column}: "


def messages_of(text: str, overrides: dict[str, object]) -> list[str]:
    """The mistakes of a machine file, or none when it describes a machine."""
    try:
        validate(MachineSpec, parse(text, place).with_overrides(overrides, "--set "))
    except ConfigError as error:
        return error.mistakes
    return []


@given(yaml_like)
@example("? a")
@example("%YAML 9.9\n---\na")
def test_any_text_is_refused_with_a_place(text):
    messages = messages_of(text, {})
    assert messages
    assert all(message.startswith("m.yaml:") for message in messages)


@given(st.data())
def test_a_damaged_machine_file_gives_a_machine_or_located_mistakes(data):
    start = data.draw(st.integers(0, len(MACHINE_TEXT)))
    length = data.draw(st.integers(0, 40))
    text = MACHINE_TEXT[:start] + data.draw(yaml_like) + MACHINE_TEXT[start + length :]
    assert all(message.startswith("m.yaml:") for message in messages_of(text, {}))


@given(st.dictionaries(keys, values | yaml_like, max_size=3))
def test_any_override_gives_a_machine_or_mistakes_that_name_it(overrides):
    messages = messages_of(MACHINE_TEXT, overrides)
    assert all(message.startswith(("--set ", "m.yaml:")) for message in messages)
