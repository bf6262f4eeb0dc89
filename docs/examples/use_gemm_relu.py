"""Use the kernel of `gemm_relu.py`: read its program, simulate it, compare it with plain gemm."""

import gemm_relu  # noqa: F401  (importing it registers the kernel)

from accelsim import simulate
from accelsim.program.printer import format_program
from accelsim.simulation import record

MACHINE, WORKLOAD = "edge-npu", "smollm2-linear-real"

program = record(MACHINE, WORKLOAD, "gemm_relu", {"workload.tensors": None})
print(format_program(program, limit=9))
print(f"{program.num_ops} ops in {program.num_items} work items")

for recipe in ("gemm", "gemm_relu(tile=64)", "gemm_relu(tile=128)"):
    report = simulate(MACHINE, WORKLOAD, recipe)
    print(
        f"{recipe:19} {report.cycles:7} cycles, "
        f"{report.hbm_read_bytes + report.hbm_write_bytes:8} B of HBM traffic, "
        f"relative RMSE {report.accuracy.relative_rmse:.2g}, bound by {report.bound_by}"
    )
