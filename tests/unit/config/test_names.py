"""Names stand in reports, tables and figures, so they are text on one line."""

import pytest

from accelsim.config.loader import load_spec, read_document
from accelsim.errors import ConfigError, printable
from accelsim.hardware.dram import DramSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.loading import load_machine, load_workload
from accelsim.sweeps.contents import load_sweep

ALLOWED = "allowed: a name on one line, without control characters"
NAMES = {
    '"a\\x1b[31mRED"': r"'a\x1b[31mRED'",
    '"a\\nb"': r"'a\nb'",
    '"a\\u009bb"': r"'a\x9bb'",
    '"a\\u202eb"': r"'a\u202eb'",
    '"a\\u2028b"': r"'a\u2028b'",
    '""': "''",
    '" "': "' '",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_would_not_be_shown_as_it_is(name, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(f"name: {name}\n")

    def first(load) -> str:
        with pytest.raises(ConfigError) as refused:
            load()
        return next(each for each in refused.value.mistakes if ": name: " in each)

    wanted = f"{file}:1:1: name: found {NAMES[name]}, {ALLOWED}"
    assert first(lambda: load_machine(file)) == wanted
    assert first(lambda: load_sweep(file)) == wanted
    assert first(lambda: load_spec(TechnologySpec, file, kind="technology")) == wanted
    assert first(lambda: load_spec(DramSpec, file, kind="memory")) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_a_workload_and_each_part_of_a_layer_has_a_name_too(name, tmp_path):
    part = "kind: gemm, m: 1, n: 1, k: 1"
    files = {
        "gemm.yaml": (f"{{{part}, name: {name}}}", "name"),
        "layer.yaml": (
            f"{{kind: layer, name: x, problems: [{{{part}, name: {name}}}]}}",
            "problems[0].name",
        ),
        "whole.yaml": (f"{{kind: layer, problems: [{{{part}, name: x}}], name: {name}}}", "name"),
    }
    for file, (text, key) in files.items():
        (tmp_path / file).write_text(text)
        with pytest.raises(ConfigError) as refused:
            load_workload(tmp_path / file)
        assert len(refused.value.mistakes) == 1
        assert str(refused.value).endswith(f": {key}: found {NAMES[name]}, {ALLOWED}")


@pytest.mark.parametrize("name", ["big core", "é µ ²", "👩\u200d🔬", "[red]x[/red]", "a\u00a0b"])
def test_other_characters_may_stand_in_a_name(name, tmp_path):
    (tmp_path / "w.yaml").write_text(f"{{kind: gemm, m: 1, n: 1, k: 1, name: '{name}'}}")
    assert load_workload(tmp_path / "w.yaml").problem.name == name
    assert read_document(tmp_path / "w.yaml", kind="workload").value["name"] == printable(name)


def test_what_would_control_a_terminal_is_escaped():
    assert printable("a\x1b[31m\tb\r\nc\u202ed\udcff") == "a\\x1b[31m\\tb\\r\nc\\u202ed\\udcff"
