"""The forward pass against one written for this test: float64, token by token, no matrix calls.

It keeps llama.cpp's order of Q and K rows and rotates neighbors as complex numbers, so it shares
neither the permutation nor the rotation with the code under test.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from accelsim.workload.model.forward import Hooks, causal_attention, hidden_states, token_losses
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.gguf_model import read_gguf_weights

IDS = [5, 17, 200, 3, 3, 90, 41]


@pytest.fixture
def file(tiny_path):
    return GgufFile(tiny_path)


class Oracle:
    """Straightforward decoder over the tensors of the file."""

    def __init__(self, tiny, file):
        self.weights = {
            name: file.read(name, values.shape).astype(np.float64)
            for name, values in tiny.tensors.items()
        }

    def norm(self, x, name):
        scale = self.weights[name]
        root = math.sqrt(sum(value * value for value in x) / len(x) + np.float32(1e-5))
        return np.array([value / root * each for value, each in zip(x, scale, strict=True)])

    def apply(self, layer, name, x):
        weight = self.weights[f"blk.{layer}.{name}.weight"]
        return np.array([sum(row * x) for row in weight])

    def rotated(self, x, position):
        for pair in range(8):
            turn = np.exp(1j * position * 1e4 ** (-2 * pair / 16))
            value = complex(x[2 * pair], x[2 * pair + 1]) * turn
            x[2 * pair], x[2 * pair + 1] = value.real, value.imag
        return x

    def attention(self, layer, normed):
        keys, values, outputs = [], [], []
        for position, x in enumerate(normed):
            q, k, v = (self.apply(layer, f"attn_{name}", x) for name in "qkv")
            keys.append([self.rotated(k[16 * h : 16 * h + 16], position) for h in range(2)])
            values.append([v[16 * h : 16 * h + 16] for h in range(2)])
            heads = []
            for head in range(4):
                query = self.rotated(q[16 * head : 16 * head + 16], position)
                scores = [math.exp(sum(query * each[head // 2]) / 4) for each in keys]
                mixed = sum(s * each[head // 2] for s, each in zip(scores, values, strict=True))
                heads.append(mixed / sum(scores))
            outputs.append(self.apply(layer, "attn_output", np.concatenate(heads)))
        return outputs

    def ffn(self, layer, x):
        gate, up = self.apply(layer, "ffn_gate", x), self.apply(layer, "ffn_up", x)
        return self.apply(layer, "ffn_down", gate / (1 + np.exp(-gate)) * up)

    def states(self, ids):
        stream = [self.weights["token_embd.weight"][each] for each in ids]
        for layer in range(2):
            normed = [self.norm(x, f"blk.{layer}.attn_norm.weight") for x in stream]
            mixed = self.attention(layer, normed)
            stream = [x + y for x, y in zip(stream, mixed, strict=True)]
            stream = [
                x + self.ffn(layer, self.norm(x, f"blk.{layer}.ffn_norm.weight")) for x in stream
            ]
        return np.array(stream)

    def losses(self, ids):
        embedding = self.weights["token_embd.weight"]
        losses = []
        for x, target in zip(self.states(ids[:-1]), ids[1:], strict=True):
            logits = [sum(row * self.norm(x, "output_norm.weight")) for row in embedding]
            losses.append(math.log(sum(math.exp(each) for each in logits)) - logits[target])
        return np.array(losses)


def test_hidden_states_match_the_oracle(tiny, file):
    found = hidden_states(read_gguf_weights(file), IDS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, Oracle(tiny, file).states(IDS), atol=2e-5)


def test_losses_match_the_oracle(tiny, file):
    found = token_losses(read_gguf_weights(file), IDS)
    np.testing.assert_allclose(found, Oracle(tiny, file).losses(IDS), atol=2e-5)


def test_losses_do_not_depend_on_how_many_logits_are_made_at_once(file, monkeypatch):
    weights = read_gguf_weights(file)
    whole = token_losses(weights, IDS)
    monkeypatch.setattr("accelsim.workload.model.forward._LOGIT_ROWS", 4)
    np.testing.assert_allclose(token_losses(weights, IDS), whole, atol=1e-5)


def test_a_token_never_sees_a_later_one(file):
    weights = read_gguf_weights(file)
    changed = hidden_states(weights, [*IDS[:-1], 7])
    np.testing.assert_allclose(changed[:-1], hidden_states(weights, IDS)[:-1], atol=1e-6)


def test_the_model_runs_on_one_blas_thread_and_leaves_the_setting_alone(file):
    def threads():
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

    inside = []

    def attention(layer, q, k, v, window):
        inside.append(threads())
        return causal_attention(layer, q, k, v, window)

    before = threads()
    token_losses(read_gguf_weights(file), IDS, Hooks(attention=attention))
    assert inside == [{1}, {1}]
    assert threads() == before


def test_some_layers_only(file):
    weights = read_gguf_weights(file)
    one = replace(weights, layers=weights.layers[:1])
    np.testing.assert_array_equal(
        hidden_states(weights, IDS, num_layers=1), hidden_states(one, IDS)
    )


def test_hooks_replace_every_linear_and_attention(file):
    weights = read_gguf_weights(file)
    linears, attentions = [], []

    def linear(layer, name, x, weight):
        linears.append((layer, name, x.shape[1], weight.shape))
        return (x.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.float32)

    def attention(layer, q, k, v, window):
        attentions.append((layer, q.shape, k.shape, v.shape))
        return causal_attention(layer, q, k, v, window)

    found = hidden_states(weights, IDS, Hooks(linear, attention))
    np.testing.assert_allclose(found, hidden_states(weights, IDS), atol=1e-5)
    shapes = weights.config.linear_shapes
    assert linears == [
        (layer, name, shape[1], shape) for layer in range(2) for name, shape in shapes.items()
    ]
    assert attentions == [(layer, (4, 7, 16), (2, 7, 16), (2, 7, 16)) for layer in range(2)]


def test_what_a_hook_returns_is_used(file):
    weights = read_gguf_weights(file)
    silent = Hooks(lambda _layer, _name, x, weight: np.zeros((len(x), len(weight)), np.float32))
    np.testing.assert_array_equal(hidden_states(weights, IDS, silent), weights.embedding[IDS])
