"""The vector functions of `h200_vector` over other shapes, drawn and measured apart.

No number and no rule of the model was chosen with these rows in sight.
"""

from dataclasses import replace

from accelsim.validation.h200_vector import REFERENCE as CHOOSING

REFERENCE = replace(
    CHOOSING,
    name="h200-vector-held-out",
    summary="the same over shapes that were drawn and not looked at",
    file="h200-vector-held-out.csv",
)
