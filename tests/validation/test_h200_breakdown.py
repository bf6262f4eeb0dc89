"""Kernels of whole steps by class, on a step that a run of the tests can afford."""

import pytest

from accelsim.loading import load_machine
from accelsim.validation.h200_breakdown import REFERENCE, KernelsRow, by_class, predict
from accelsim.validation.h200_steps import model_of, step_of
from accelsim.validation.table import read_rows

CLASSES = {"vector", "gemm", "attention", "lm_head"}
MACHINE = load_machine("h200-sxm")


def every():
    return read_rows(REFERENCE.shipped_file, KernelsRow)


def test_a_class_is_the_sum_of_its_kernels():
    found, classes = every(), by_class(every())
    assert len(found) == 174
    assert len(classes) == 14 * len(CLASSES)
    assert {row.kernel_class for row in classes} == CLASSES
    time_us = sum(row.time_us for row in found if row.kernel_class != "span")
    assert sum(row.time_us for row in classes) == pytest.approx(time_us)
    launches = sum(row.launches for row in found if row.kernel_class != "span")
    assert sum(row.launches for row in classes) == launches


def test_classes_of_the_model_are_its_step_without_launches():
    row = next(row for row in by_class(every()) if row.weights == "fp8" and row.batch == 1)
    row = row.model_copy(update={"phase": "decode", "prompt_tokens": 1, "context": 1024})
    classes = [row.model_copy(update={"kernel_class": each}) for each in sorted(CLASSES)]
    cost = model_of(row, MACHINE).cost(step_of(row))
    launches = sum(each.count for each in cost.operations)
    total = sum(predict(each, MACHINE) for each in classes)
    assert total == pytest.approx(cost.measured.time_s - launches * MACHINE.launch)


def test_products_of_a_decode_step_in_fp8_are_near():
    found = [row for row in by_class(every()) if row.phase == "decode" and row.weights == "fp8"]
    chosen = [row for row in found if row.kernel_class in ("gemm", "lm_head")]
    assert len(chosen) == 2
    for row in chosen:
        assert predict(row, MACHINE) == pytest.approx(REFERENCE.value_of(row), rel=0.15)
