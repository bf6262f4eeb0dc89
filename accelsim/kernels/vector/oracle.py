"""The vector functions in float64, as their definitions read."""

import numpy as np

from accelsim.kernels import language as al


def exact_result(problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
    """Return the function of a problem in float64, [rows, cols]."""
    x = tensors.x.astype(np.float64)
    match problem.function:
        case "softmax":
            weights = np.exp(x - x.max(axis=1, keepdims=True))
            return np.asarray(weights / weights.sum(axis=1, keepdims=True))
        case "rmsnorm":
            return np.asarray(x / np.sqrt(_mean(x**2) + problem.epsilon))
        case "layernorm":
            centered = x - _mean(x)
            return np.asarray(centered / np.sqrt(_mean(centered**2) + problem.epsilon))
        case "gelu":
            inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
            return np.asarray(0.5 * x * (1 + np.tanh(inner)))
        case "silu":
            return np.asarray(x / (1 + np.exp(-x)))
        case "relu":
            return np.maximum(x, 0)
        case "relu_squared":
            return np.maximum(x, 0) ** 2
        case "softcap" if problem.softcap:
            return np.asarray(problem.softcap * np.tanh(x / problem.softcap))
        case "silu_mul" | "gelu_mul" if tensors.y is not None:
            alone = problem.model_copy(update={"function": problem.function.removesuffix("_mul")})
            return exact_result(alone, tensors) * tensors.y.astype(np.float64)
    return x


def _mean(x: al.Array) -> al.Array:
    return np.asarray(x.mean(axis=1, keepdims=True))
