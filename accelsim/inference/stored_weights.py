"""Bytes of the weights of a model in the formats that its kernels store."""

from collections.abc import Callable
from dataclasses import replace

from accelsim.inference.cost import StepModel
from accelsim.models.architecture import Architecture
from accelsim.models.parallel import stages_of
from accelsim.models.step import Step
from accelsim.workload.problem import GemmProblem, GroupedGemmProblem, Problem

_ACTIVATIONS = ("a", "x")
"""Inputs of a product that are no weights, as its kernels name them."""


def weight_bytes(model: StepModel, step: Step) -> int:
    """Return the bytes of all weights of a device, as a step has them.

    A tied head that is stored as the embedding is counts once. Raises what the machine cannot run.
    """
    return _all_bytes(model, step) - _tied_bytes(model, step)


def weight_bytes_read(model: StepModel, step: Step) -> int:
    """Return the bytes of the weights that a step reads: of experts those that have rows."""
    read = _bytes_of_products(model, step, lambda problem: len(problem.used))
    return read - model.architecture.table_bytes


def stages(model: StepModel, step: Step) -> tuple[tuple[Architecture, int], ...]:
    """Return what a device of each stage has of the model, and the bytes of its weights.

    The first stage has the tables, and the last one the head, which then is no table of others.
    """
    if model.parallel.pipeline == 1:
        return ((model.share, weight_bytes(model, step)),)
    plan = replace(model.plan, parallel=replace(model.parallel, pipeline=1, microbatches=1))
    parts = stages_of(model.architecture, model.parallel)
    found = list[tuple[Architecture, int]]()
    for number, part in enumerate(parts):
        stage = replace(model, architecture=part, plan=plan)
        stored_bytes = _all_bytes(stage, step)
        if number > 0:
            stored_bytes -= part.table_bytes
        if number < len(parts) - 1:
            stored_bytes -= _stored_bytes(stage, _head(stage, step))
        found.append((stage.share, stored_bytes))
    return tuple(found)


def _all_bytes(model: StepModel, step: Step) -> int:
    return _bytes_of_products(model, step, lambda problem: len(problem.rows))


def _head(model: StepModel, step: Step) -> GemmProblem:
    """Return the product that makes the logits."""
    problems = (each.problem for each in model.operations(step))
    return next(each for each in problems if isinstance(each, GemmProblem) and each.name == "head")


def _tied_bytes(model: StepModel, step: Step) -> int:
    """Return the bytes that the head shares with the embedding: none in a format of its own."""
    if not model.architecture.has_tied_head:
        return 0
    head = _head(model, step)
    stored_bytes, plain_bytes = _stored_bytes(model, head), head.tensor_bytes["b"]
    return stored_bytes if stored_bytes == plain_bytes else 0


def _bytes_of_products(
    model: StepModel, step: Step, experts: Callable[[GroupedGemmProblem], int]
) -> int:
    """Return the bytes of all weights; experts: how many of a product of experts count."""
    stored_bytes = model.share.outer_bytes
    for problem, count in ((each.problem, each.count) for each in model.operations(step)):
        if isinstance(problem, GemmProblem):
            stored_bytes += count * _stored_bytes(model, problem)
        elif isinstance(problem, GroupedGemmProblem):
            one_bytes = _stored_bytes(model, problem) // len(problem.used)
            stored_bytes += count * one_bytes * experts(problem)
    return stored_bytes


def _stored_bytes(model: StepModel, problem: Problem) -> int:
    """Return the bytes of weights as they are recorded, of experts those with rows."""

    def count() -> int:
        return sum(
            tensor.size_bytes
            for tensor in model.record(problem).program.tensors
            if tensor.role == "input" and tensor.name not in _ACTIVATIONS
        )

    return model.remembered.weight_bytes(problem, model.kernels.recipe_for(problem), count)
