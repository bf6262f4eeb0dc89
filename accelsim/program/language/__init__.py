"""The kernel language: each function records one op of a tile program and computes its numbers.

A kernel is a jitted loop over tiles that calls these functions. `p` is the program being recorded.
Tensors lie in HBM, buffers in the scratchpad or the accumulator; `tile(buffer, turn, rows, cols)`
is what an op reads or writes: it knows its extent and its format. Nothing here waits: an op waits
for earlier ops on the tiles it touches. With `data=None` in tensors and buffers only the program is
recorded, by the same code.

Worked example: docs/kernel-language.md.
"""

from accelsim.program.language.blocks import *
from accelsim.program.language.blocks import __all__ as _blocks
from accelsim.program.language.elementwise import *
from accelsim.program.language.elementwise import __all__ as _elementwise
from accelsim.program.language.integer import *
from accelsim.program.language.integer import __all__ as _integer
from accelsim.program.language.matmul import *
from accelsim.program.language.matmul import __all__ as _matmul
from accelsim.program.language.movement import *
from accelsim.program.language.movement import __all__ as _movement
from accelsim.program.language.reductions import *
from accelsim.program.language.reductions import __all__ as _reductions
from accelsim.program.language.rotation import *
from accelsim.program.language.rotation import __all__ as _rotation
from accelsim.program.language.scaled import *
from accelsim.program.language.scaled import __all__ as _scaled
from accelsim.program.language.selection import *
from accelsim.program.language.selection import __all__ as _selection
from accelsim.program.language.tiles import *
from accelsim.program.language.tiles import __all__ as _tiles
from accelsim.program.language.turns import *
from accelsim.program.language.turns import __all__ as _turns

__all__ = [
    *_blocks,
    *_elementwise,
    *_integer,
    *_matmul,
    *_movement,
    *_reductions,
    *_rotation,
    *_scaled,
    *_selection,
    *_tiles,
    *_turns,
]
