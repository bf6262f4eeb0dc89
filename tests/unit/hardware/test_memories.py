"""The shipped memories: valid, sourced down to every number, and as fast as their names say."""

import pytest

from accelsim.config.loader import load_spec, read_document
from accelsim.config.shipped import known_names
from accelsim.errors import ConfigError
from accelsim.hardware.dram import DramSpec
from accelsim.loading import load_machine
from tests.sourced import is_covered, numbers

MEMORIES = known_names("memory")
BANKED = "ascend-910b-banked"


@pytest.mark.parametrize("file", MEMORIES)
def test_every_number_has_a_source_and_every_source_a_number(file):
    memory = read_document(file, kind="memory").value
    paths = list(numbers(memory))
    assert [path for path in paths if not is_covered(path, memory["sources"])] == []
    stale = [key for key in memory["sources"] if not any(is_covered(p, {key: ""}) for p in paths)]
    assert stale == []


@pytest.mark.parametrize(
    ("name", "bytes_per_s", "capacity_gib"),
    [
        ("hbm2", 256e9, 8),
        ("hbm2e", 409.6e9, 16),
        ("hbm3", 819.2e9, 16),
        ("hbm3e-24gb", 819.2e9, 24),
        ("hbm3e-36gb", 1024 / 8 * 4 / 0.435e-9, 36),
        ("lpddr5", 25.6e9, 2),
    ],
)
def test_a_stack_has_the_rate_and_size_of_its_standard(name, bytes_per_s, capacity_gib):
    memory = load_spec(DramSpec, name, kind="memory")
    assert memory.bandwidth_bytes_per_s == pytest.approx(bytes_per_s)
    assert memory.capacity_bytes == capacity_gib * 2**30


@pytest.mark.parametrize("name", MEMORIES)
def test_energy_per_bit_follows_locality(name):
    """O'Connor's HBM2 figures: 2.75 pJ/bit and 909 pJ for a row, of which all bytes may be used."""
    memory = load_spec(DramSpec, name, kind="memory")
    row_bits = 8 * memory.shape.columns * memory.shape.burst
    per_bit = [
        (memory.energy.read / 8 + memory.energy.activate / bits)
        for bits in (256, 512, 768, row_bits)
    ]
    assert per_bit == sorted(per_bit, reverse=True)
    if name == "hbm2":
        assert per_bit == pytest.approx([6.3, 4.53, 3.93, 2.86], abs=0.01)


def test_a_banked_machine_takes_its_rate_and_size_from_the_standard():
    machine = load_machine(BANKED)
    assert machine.hbm.bandwidth == pytest.approx(1638.4e9)
    assert machine.hbm.channels == 32
    assert machine.hbm.capacity == 64 * 2**30
    assert machine.hbm.interleave == 4096


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hbm.standard", "hbm9", "--set hbm.standard: unknown memory 'hbm9', did you mean"),
        ("hbm.mapping", "[row, column]", "has places for 1 of the 4 values of bank"),
        ("hbm.mapping", "[row, colum]", "found 'colum'; allowed: row, column"),
        ("hbm.kind", "bank", "found 'bank', did you mean 'banked'?; allowed: 'flat', 'banked'"),
        ("hbm.page", "shut", "--set hbm.page: found 'shut'; allowed: 'open' or 'closed'"),
        ("hbm.stacks", "0", "--set hbm.stacks: found 0, expected a value greater than 0"),
        ("hbm.controller.drain_below", "0.9", "found drain_below = 0.9, allowed: at most"),
        ("hbm.controller.window", "0", "--set hbm.controller.window: found 0"),
    ],
)
def test_a_mistake_in_a_banked_memory_is_explained(key, value, message):
    with pytest.raises(ConfigError) as caught:
        load_machine(BANKED, {key: value})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "other", "message"),
    [
        ("burst: 32 B", "burst: 48 B", "found burst = 48, allowed: a power of two"),
        ("t_rfc: 350", "t_rfc: 3900", "found t_rfc = 3900, allowed: less than t_refi = 3900"),
        ("t_rp: 14", "t_rp: 3550", "found t_rfc = 350, allowed: less than t_refi = 3900"),
        ("t_ccd_l: 4", "t_ccd_l: 65", "found t_ccd_l = 65, allowed: at most 64, the time of 32"),
        ("t_ck: 1 ns", "t_ck: 1", "timing.t_ck: found '1', a number without a unit"),
        ("activate_width: 2", "activate_width: 0.7", "activate_width"),
        ("t_faw: 15", "t_fw: 15", "unknown key"),
    ],
)
def test_a_mistake_in_a_memory_file_is_explained(tmp_path, line, other, message):
    from accelsim.config.shipped import locate

    text = locate("hbm2", "memory").read_text()
    assert line in text
    file = tmp_path / "own.yaml"
    file.write_text(text.replace(line, other))
    with pytest.raises(ConfigError, match=message):
        load_spec(DramSpec, file, kind="memory")


def test_the_banked_ascend_is_the_ascend_but_for_its_memory():
    flat, banked = (
        load_machine(name).model_dump(exclude={"name", "description", "hbm", "sources"})
        for name in ("ascend-910b", BANKED)
    )
    assert flat == banked
