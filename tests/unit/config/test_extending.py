"""Files that build on another: what is kept, what is replaced, and where a mistake stands."""

from pathlib import Path

import pytest

from accelsim.config.loader import load_spec, read_document
from accelsim.config.shipped import locate
from accelsim.errors import ConfigError, UnknownNameError
from accelsim.hardware.dram import DramSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.loading import load_machine, load_system
from accelsim.numerics.formats import Format


def write(folder: Path, **files: str) -> Path:
    """Write NAME.yaml for each of `files`, and return the path of the last."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{list(files)[-1]}.yaml"


def refusal(folder: Path, error: type[Exception] = ConfigError, **files: str) -> str:
    path = write(folder, **files)
    with pytest.raises(error) as found:
        load_machine(path)
    return str(found.value).replace(f"{folder}/", "")


def test_keys_are_replaced_one_by_one(tmp_path):
    path = write(
        tmp_path, own="extends: edge-npu\nname: own\ncube: {rates: {int8: 4}}\nclock: 2 GHz\n"
    )
    base, own = load_machine("edge-npu"), load_machine(path)
    assert own.cube is not None
    assert base.cube is not None
    assert (own.name, own.clock, own.cube.rates[Format.INT8]) == ("own", 2e9, 4)
    rates = base.cube.rates | {Format.INT8: 4}
    changed = {"name": "own", "clock": 2e9, "cube": base.cube.model_copy(update={"rates": rates})}
    assert own.model_copy(update={"sources": {}}) == base.model_copy(
        update=changed | {"sources": {}}
    )


def test_a_part_of_another_kind_is_replaced_as_a_whole(tmp_path):
    systolic = (
        "cube: {kind: systolic, rows: 8, cols: 8, dataflow: output_stationary, rates: {fp16: 1}, "
        "pipeline_depth_cycles: 1, operand_buffer: 4 KiB}\n"
    )
    own = load_machine(write(tmp_path, own=f"extends: edge-npu\n{systolic}"))
    assert own.cube is not None
    assert (own.cube.kind, own.cube.rates) == ("systolic", {Format.FP16: 1})
    missing = refusal(tmp_path, bad="extends: edge-npu\nname: x\nhbm:\n  kind: banked\n")
    assert missing.splitlines()[0].startswith("bad.yaml:3:1: hbm.standard: missing; expected: ")


def test_nothing_takes_a_part_away(tmp_path):
    assert load_machine("h200-sxm").l2 is not None
    assert load_machine(write(tmp_path, own="extends: h200-sxm\nl2: ~\n")).l2 is None


def test_a_number_that_is_replaced_loses_the_source_of_the_other(tmp_path):
    path = write(
        tmp_path,
        own="extends: ascend-910b-no-l2\nload: {in_flight: 9, bandwidth: 1 B/cycle}\n"
        "hbm: {latency: 1 us}\ncube: {rates: {int8: 4}}\nsources: {load.bandwidth: a book}\n",
    )
    before, after = load_machine("ascend-910b-no-l2").sources, load_machine(path).sources
    assert after["load.bandwidth"] == "a book"
    assert before.keys() - after.keys() == {"load.in_flight", "hbm.latency"}
    assert after["cube.rates"] == before["cube.rates"], "the other rates are still from there"


def test_a_chain_of_files_is_followed_from_the_folder_of_each(tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    write(tmp_path, first="extends: edge-npu\nname: first\ncores: 3\n")
    path = write(tmp_path / "below", second="extends: ../first.yaml\nname: second\n")
    monkeypatch.chdir("/")
    machine = load_machine(path)
    assert (machine.name, machine.cores) == ("second", 3)


def test_a_memory_may_be_a_variant_of_a_standard(tmp_path):
    path = write(tmp_path, fast="extends: hbm3\ndescription: faster\ntiming: {t_ck: 0.5 ns}\n")
    fast, standard = (load_spec(DramSpec, each, kind="memory") for each in (path, "hbm3"))
    assert fast.timing.t_ck == 0.5e-9
    assert fast.shape == standard.shape


def test_a_technology_extends_no_other(tmp_path):
    path = write(tmp_path, own="extends: 7nm\n")
    with pytest.raises(ConfigError, match=r"own\.yaml:1:1: extends: unknown key"):
        load_spec(TechnologySpec, path, kind="technology")


def test_what_was_read_is_read_again_only_after_a_change(tmp_path):
    path = write(tmp_path, base="extends: edge-npu\ncores: 2\n", own="extends: base.yaml\n")
    first = read_document(path, kind="machine")
    assert read_document(path, kind="machine") is first
    write(tmp_path, base="extends: edge-npu\ncores: 12\n")
    assert read_document(path, kind="machine").at(("cores",)) == 12


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            "extends: edge-np\n",
            "own.yaml:1:1: extends: unknown machine 'edge-np', did you mean 'edge-npu'?; known: ",
        ),
        ("name: x\nextends: no.yaml\n", "own.yaml:2:1: extends: no.yaml: no such file"),
        (
            "extends: 3\n",
            "own.yaml:1:1: extends: found 3, expected the name or path of a machine file",
        ),
        (
            "extends:\n",
            "own.yaml:1:1: extends: found nothing, expected the name or path of a machine file",
        ),
        ("extends: own.yaml\n", "own.yaml:1:1: extends: found a circle: own.yaml extends own.yaml"),
        ("extends: empty.yaml\n", "empty.yaml:1:1: found nothing, expected a mapping of keys"),
        ("extends: .\n", "own.yaml:1:1: extends: /"),
        ("extend: edge-npu\n", "own.yaml:1:1: extend: unknown key, did you mean 'extends'?"),
        (
            "extends: edge-npu\nhbm: {latency: 3}\n",
            "own.yaml:2:7: hbm.latency: found '3', a number without a unit",
        ),
        ("extends: edge-npu\ncores: 1\ncores: 2\n", "own.yaml:3:1: cores: the key appears twice"),
        ("extends: wrong.yaml\nname: x\n", "wrong.yaml:2:1: cores: found 0"),
        ("extends: twice.yaml\nname: x\n", "twice.yaml:3:1: cores: the key appears twice"),
    ],
)
def test_a_mistake_is_said_to_be_where_it_stands(tmp_path, own, message):
    files = {
        "empty": "",
        "wrong": "extends: edge-npu\ncores: 0\n",
        "twice": "extends: edge-npu\ncores: 1\ncores: 2\n",
    }
    assert message in refusal(tmp_path, **files, own=own)


def test_a_system_extends_another(tmp_path):
    path = write(tmp_path, own="extends: h200\nname: own\nhost: {step: {value: 1 us}}\n")
    base, own = load_system("h200"), load_system(path)
    assert (own.name, own.machine) == ("own", base.machine)
    assert own.host.step.value == pytest.approx(1e-6)
    assert own.host.request == base.host.request


def test_a_circle_of_files_is_named_in_full(tmp_path):
    files = {"b": "extends: c.yaml\n", "c": "extends: b.yaml\n", "a": "extends: b.yaml\n"}
    assert refusal(tmp_path, **files) == (
        "c.yaml:1:1: extends: found a circle: a.yaml extends b.yaml extends c.yaml extends b.yaml"
    )


def test_only_a_file_extends_another():
    with pytest.raises(ConfigError) as found:
        load_machine("edge-npu", {"extends": "h200-sxm"})
    assert str(found.value) == "--set extends: can only be said in a file"


def test_a_relative_path_starts_at_the_folder_that_is_given(tmp_path):
    path = write(tmp_path, own="")
    assert locate("own.yaml", "machine", tmp_path) == path
    with pytest.raises(UnknownNameError, match="unknown machine 'own'"):
        locate("own", "machine", tmp_path)
