"""What a DMA op moves, decoded from its words."""

from accelsim.program.program import TensorInfo
from accelsim.program.transfer import Transfer, row_address, row_pitches, transfer_of
from accelsim.runtime.jit import jit
from tests.handmade import gather, load, program_of, store

TENSORS = (
    TensorInfo("in", "input", 8, 16, 16, 0),
    TensorInfo("out", "output", 8, 5, 4, 4096),
)
PROGRAM = program_of(
    [
        [
            load(1, 64, 8, rows=3, step=32),
            gather(2, 4, 16, rows=2, first=1),
            store(1, 4096, 3, rows=2, step=20, tensor=1),
            load(1, 64, 32, rows=3, step=32),
        ]
    ],
    tensors=TENSORS,
    gathered_rows=[9, 5, 2],
)


@jit
def addresses(ops, index, pitches, gathered_rows):
    transfer = transfer_of(ops, index, pitches)
    return [row_address(transfer, row, gathered_rows) for row in range(transfer.rows)]


def transfer(index):
    return transfer_of(PROGRAM.ops, index, row_pitches(PROGRAM))


def row_addresses(index):
    return list(addresses(PROGRAM.ops, index, row_pitches(PROGRAM), PROGRAM.gathered_rows))


def test_the_pitch_of_a_tensor_is_its_packed_row():
    assert row_pitches(PROGRAM).tolist() == [32, 3]


def test_a_load_steps_from_row_to_row():
    assert transfer(0) == Transfer(64, 3, 8, 32, -1, False)
    assert row_addresses(0) == [64, 96, 128]


def test_a_gather_finds_its_rows_by_number():
    assert transfer(1) == Transfer(4, 2, 16, 32, 1, False)
    assert row_addresses(1) == [4 + 5 * 32, 4 + 2 * 32]


def test_a_store_writes():
    assert transfer(2) == Transfer(4096, 2, 3, 20, -1, True)
    assert row_addresses(2) == [4096, 4116]


def test_rows_without_a_gap_are_one_run():
    assert transfer(3) == Transfer(64, 1, 96, 32, -1, False)
    assert row_addresses(3) == [64]
