"""The quantized linears: both engines agree on every op, with one core and with many."""

import pytest

from accelsim.engine import compiled, reference
from accelsim.loading import load_machine
from accelsim.workload.problem import GemmProblem
from tests.oracle.recorded import run
from tests.property.engine.test_agreement import assert_equal

ARRAY = {"int_mac": "{rows: 64, cols: 64, pipeline_depth_cycles: 2, index_buffer: 64 KiB}"}
MACHINES = {
    "tender-asic": load_machine("tender-asic"),
    "ascend-910b-no-l2": load_machine("ascend-910b-no-l2", ARRAY),
}
CHOICES = {
    "tender": ("tender", {}),
    "tender, codes given": ("tender", {"input": "quantized", "weight_bits": 4}),
    "requantized": ("requantized", {"activation_bits": 4, "weight_bits": 4}),
    "row": ("quantized", {"activation_scale": "row"}),
    "tensor": ("quantized", {"activation_scale": "dynamic_tensor"}),
    "channel": ("quantized", {"activation_scale": "channel"}),
}


@pytest.mark.parametrize("machine_name", list(MACHINES))
@pytest.mark.parametrize("choice", list(CHOICES))
def test_engines_agree_on_every_op(choice, machine_name):
    machine, (kernel, settings) = MACHINES[machine_name], CHOICES[choice]
    problem = GemmProblem(kind="gemm", name="small", m=300, n=130, k=120)
    program, _ = run(kernel, problem, None, machine=machine, **settings)
    assert_equal(compiled.schedule(program, machine), reference.schedule(program, machine))
