"""What is known of candidates beside the costs of their ops: rows of one matrix."""

from accelsim.kernels.attention.flash.online_estimate import NUM_NOTES, NUM_WORK, WHOLE

TILE_Q, TILE_K, FOLD, QUERY_TILES = range(4)
"""Rows of candidates."""
BATCH, Q_LEN, KV_LEN = range(3)
"""Columns of parts."""
WORK = WHOLE[0]
SECOND_TILE = NUM_WORK
LAST_KEYS = 2 * NUM_WORK
"""So many rows behind the costs of the first query tile and a whole tile of keys are those of the
second query tile, and those of the last tile of keys."""
_FACTS = 4 * NUM_WORK
WAIT, OTHER_KEYS, AHEAD, MASK, PERIOD, LONE, LONE_OF_SECOND = range(_FACTS, _FACTS + 7)
STEP, LAST_STEP = range(_FACTS + 7, _FACTS + 9)
SHARED, LAST_SHARED, BY_OTHERS = range(_FACTS + 9, _FACTS + 12)
OF_WARM = 3
"""Rows behind the costs, what else is known of a block: how long it waits at the start; keys that
make as many bytes as its queries and its output, and keys that it asks for at the start; cycles of
a masked tile, the least of any tile, and those of a tile that one of two query tiles meets alone.
Then the time of a key where cores share the memory, all of them or those of the last wave, and the
part of it in which a core waits for others; the same of items that find their keys in an L2."""
CYCLES, BYTES, NUM_STEPS, LEAST, IS_DONE, NUM_ITEMS = range(_FACTS + 15, _FACTS + 21)
"""Rows of what is found of a candidate: its time, the bytes that are loaded, the tiles of keys that
all items meet, a bound on the time, whether it was looked at, and its items."""
NOTED = _FACTS + 21
"""Notes of items whose keys come from the HBM, and of those that find them in an L2."""
ROOM = NOTED + 2 * NUM_NOTES - _FACTS
