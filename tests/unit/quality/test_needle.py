"""Pass keys in texts: what is planted where, and what finding one means."""

import json
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from accelsim.errors import AccelsimError
from accelsim.kernels import registry
from accelsim.kernels.attention.flash.flash import Flash
from accelsim.library.kernels import Kernels
from accelsim.quality import needle
from accelsim.quality.needle import compare_needles, find_needles
from accelsim.quality.needle_display import needle_table
from accelsim.quality.needle_report import Retrieval
from accelsim.quality.predictions import Predictions
from accelsim.quality.search import Search
from accelsim.workload.model.forward import final_states
from accelsim.workload.model.language import load_model
from accelsim.workload.model.release import model_path
from tests.unit.quality.test_attention import FLOAT32_STEPS

EXACT = ("flash(precision=fp32)", {"workload.dtype": "fp32"}, "edge-npu")
SEARCH = Search(lengths=(14, 16), depths=(0.0, 0.5, 1.0), trials=2)


@pytest.fixture
def short_pieces(monkeypatch):
    """The tiny model reads 32 tokens at once, nearly one a character."""
    monkeypatch.setattr(needle, "_NEEDLE", "<{key}>")
    monkeypatch.setattr(needle, "_QUESTION", "?")
    monkeypatch.setattr(needle, "_ANSWER", "{key}")


@pytest.fixture
def reads(monkeypatch):
    """Token ids that the network reads, and how many of them are the answer."""
    seen = []
    real = needle.Passes.read

    def read(self, window):
        seen.append((list(window.ids), window.judged))
        return real(self, window)

    monkeypatch.setattr(needle.Passes, "read", read)
    return seen


def answer(hits, fp32_hits, losses, fp32_losses):
    columns = (losses, fp32_losses, hits, fp32_hits, hits, losses, hits)
    return Predictions(*(np.array(column, np.float64) for column in columns))


def test_a_key_is_planted_at_its_depth_and_asked_for_at_the_end(text, short_pieces, reads):
    find_needles("smollm2", *EXACT, text, SEARCH)
    model = load_model("smollm2")
    whole = model.tokenizer.encode(text.read_text())
    vocabulary = "<>?0123456789"
    codes = {character: model.tokenizer.encode(character)[0] for character in vocabulary}
    assert len(reads) == 2 * 2 * 3
    places = [(length, depth) for length in (14, 16) for depth in (0.0, 0.5, 1.0)]
    for number, (ids, last) in enumerate(reads):
        length, depth = places[number % 6]
        size = length - 7 - 1  # <, five digits, > and ?
        assert (len(ids), last) == (length + 5, 5)
        start = 0 if number < 6 else len(whole) - size
        place = round(depth * size)
        key = ids[-5:]
        planted = [codes["<"], *key, codes[">"]]
        pages = whole[start : start + size]
        assert ids == pages[:place] + planted + pages[place:] + [codes["?"]] + key
        assert set(key) <= {codes[digit] for digit in "0123456789"}
    keys = {tuple(ids[-5:]) for ids, _ in reads}
    assert len(keys) == 2


def test_keys_come_from_the_seed(text, short_pieces, reads):
    for seed in (0, 0, 1):
        find_needles("smollm2", *EXACT, text, SEARCH._replace(seed=seed))
    first, again, other = (reads[start : start + 12] for start in (0, 12, 24))
    assert first == again
    assert first != other


def test_an_exact_kernel_finds_what_fp32_finds(text, short_pieces):
    report = find_needles("smollm2", *EXACT, text, SEARCH)
    for _, _, found in report.places:
        assert (found.lost, found.gained) == (0, 0)
        assert abs(found.nll_change.value) < 1e-5
    assert report.total.prompts == 12
    assert [place[:2] for place in report.places] == [
        (length, depth) for length in (14, 16) for depth in (0.0, 0.5, 1.0)
    ]


class Halving(Flash):
    """Says that it kept half of the keys."""

    name: ClassVar[str] = "halving"

    @classmethod
    def record(cls, problem, machine, parameters, tensors):
        program, output = super().record(problem, machine, parameters, tensors)
        return replace(program, statistics={"kept_fraction": 0.5}), output


def repeat_tokens(tiny):
    """Leave nothing but the embedding in the residual stream: a token predicts itself."""
    for name in tiny.tensors:
        if name.endswith(("attn_output.weight", "ffn_down.weight")):
            tiny.tensors[name] = np.zeros_like(tiny.tensors[name])
            tiny.types[name] = "F32"


def test_finding_is_greedy_decoding_of_the_whole_key(tiny, text, short_pieces, reads, monkeypatch):
    repeat_tokens(tiny)
    tiny.write(text.with_suffix(".gguf")).replace(model_path("smollm2"))
    monkeypatch.setattr(needle, "_QUESTION", "7")
    keys = ("77777", "77737")
    monkeypatch.setattr(needle, "_trials", lambda stacks, _: [(stacks[0], k, 0.0) for k in keys])
    report = find_needles("smollm2", *EXACT, text, SEARCH)
    weights = load_model("smollm2").weights
    expected = []
    for ids, last in reads:
        prompt = ids[:-last]
        for _ in range(last):
            states = final_states(weights, prompt)
            prompt.append(int((states[-1:] @ weights.embedding.T).argmax()))
        expected.append(prompt == ids)
    assert expected == [True] * 6 + [False] * 6
    assert report.total.fp32_found == report.total.found == 6


def test_shares_and_their_errors_are_paired():
    found = Retrieval.of(
        [
            [answer([1, 1], [1, 1], [0.1, 0.1], [0.1, 0.1])],
            [answer([1, 0], [1, 1], [0.1, 2.1], [0.1, 0.1])],
            [answer([1, 1], [0, 1], [0.1, 0.1], [1.1, 0.1])],
            [answer([0, 0], [1, 1], [3.1, 3.1], [0.1, 0.1])],
        ]
    )
    assert (found.prompts, found.fp32_found, found.found) == (4, 3, 2)
    assert (found.lost, found.gained) == (2, 1)
    # Of pairs with 2 lost and 1 gained the variance is (3 - 1 / 4) / 3, over 4 pairs.
    assert found.change.value == -0.25
    assert found.change.se == pytest.approx((2.75 / 3 / 4) ** 0.5)
    assert found.nll_change.value == pytest.approx((0 + 2 - 1 + 6) / 8)


def test_prompts_of_one_trial_are_one_unit():
    lost, kept = answer([0], [1], [1], [0]), answer([1], [1], [0], [0])
    found = Retrieval.of([[lost, lost, lost], [kept, kept, kept]])
    assert (found.prompts, found.lost) == (6, 3)
    # Two trials, -1 and 0: their mean is off by a half.
    assert (found.change.value, found.change.se) == (-0.5, 0.5)


def test_json_and_table_tell_the_same(text, short_pieces, monkeypatch):
    monkeypatch.setitem(registry._KERNELS, "halving", Halving)
    report = find_needles(
        "smollm2", "halving", machine="ascend-910b-no-l2", text=text, search=SEARCH
    )
    data = report.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert [(each["length"], each["depth"]) for each in data["places"]] == [
        (length, depth) for length in (14, 16) for depth in (0.0, 0.5, 1.0)
    ]
    assert data["search"] == {
        "lengths": [14, 16],
        "depths": [0.0, 0.5, 1.0],
        "trials": 2,
        "seed": 0,
        "decode": False,
    }
    assert data["total"]["found_share"] == report.total.found / 12
    assert data["texts"][0]["text"] == str(text)
    assert data["attention"]["statistics"] == {"kept_fraction": 0.5}
    assert data["linears"] is None
    table = needle_table(report)
    columns = [column._cells for column in table.columns]
    rows = list(zip(*columns, strict=True))
    assert rows[0][:4] == ("14", "0%", "0 of 2", "0 of 2")
    assert rows[-1][:3] == ("all", "", f"{report.total.fp32_found} of 12")
    assert "mean kept fraction 0.5" in table.caption


def message(text, search, kernels=EXACT[0], prefill=None):
    with pytest.raises(AccelsimError) as raised:
        find_needles("smollm2", kernels, text=text, search=search, prefill=prefill)
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"lengths": ()}, "found no length; allowed: one or more"),
        ({"depths": ()}, "found no depth; allowed: one or more"),
        ({"lengths": (14, 14)}, "length: found 14 twice, allowed: every length once"),
        ({"depths": (0.5, 1.5)}, "depth: found 1.5, allowed: 0 to 1, the share before the key"),
        (
            {"depths": (float("nan"),)},
            "depth: found nan, allowed: 0 to 1, the share before the key",
        ),
        ({"trials": 1}, "trials: found 1, allowed: 2 or more"),
        *(
            (
                {"lengths": (length,)},
                f"length: found {length} tokens, allowed: 9 to 28; needle and question take 8, "
                "and model 'smollm2' reads 32 at once, the answer with them",
            )
            for length in (8, 29)
        ),
    ],
)
def test_messages(text, short_pieces, change, expected):
    assert message(text, SEARCH._replace(**change)) == expected


def test_a_text_that_is_too_short(text, short_pieces):
    assert message(text, SEARCH._replace(lengths=(28,))) == (
        f"text {text}: found 20 tokens, allowed: 21 or more for 2 prompts of 28 tokens from "
        "different pages"
    )


def test_without_a_kernel(text):
    assert message(text, SEARCH, Kernels()).startswith("found no kernel; allowed: --kernel")


DECODING = SEARCH._replace(decode=True)


def test_question_and_answer_are_decoded_behind_the_text(text, short_pieces, monkeypatch):
    prompts = []
    real = needle.Passes.read

    def read(self, window):
        prompts.append((window.prompt, len(window.ids), window.judged))
        return real(self, window)

    monkeypatch.setattr(needle.Passes, "read", read)
    report = find_needles("smollm2", *EXACT, text, DECODING)
    # A question of one token and an answer of five, whose last one is read by nobody.
    assert prompts == [(length - 1, length + 5, 5) for length in (14, 14, 14, 16, 16, 16) * 2]
    assert (report.total.lost, report.total.gained) == (0, 0)
    assert abs(report.total.nll_change.value) < FLOAT32_STEPS
    at_once = find_needles("smollm2", *EXACT, text, SEARCH)
    assert report.total.fp32_found == at_once.total.fp32_found
    assert report.total.nll_change.value == pytest.approx(
        at_once.total.nll_change.value, abs=FLOAT32_STEPS
    )
    assert report.to_dict()["search"]["decode"] is True
    assert "decoded one by one" in needle_table(report).caption


def test_several_kernels_read_the_same_prompts(text, short_pieces):
    names = (EXACT[0], "window(window=4, sinks=1)")
    both = compare_needles("smollm2", names, *EXACT[1:], text, DECODING)
    alone = [find_needles("smollm2", name, *EXACT[1:], text, DECODING) for name in names]
    assert [each.to_dict() for each in both] == [each.to_dict() for each in alone]
    assert both[0].total.nll_change != both[1].total.nll_change


def test_a_prefill_without_decoding(text):
    assert message(text, SEARCH, prefill="flash") == (
        "prefill: found flash, and all rows are computed by the kernel; allowed: with --decode"
    )


@pytest.mark.slow
def test_the_real_model_finds_what_its_attention_sees_and_loses_what_it_does_not():
    try:
        model_path("smollm2")
    except AccelsimError as missing:
        pytest.skip(str(missing))
    search = Search(lengths=(256,), depths=(0.1,), trials=2)
    exact, near = (
        find_needles("smollm2", kernel, machine="ascend-910b", text="novel", search=search).total
        for kernel in ("flash(precision=fp16)", "window(window=64, sinks=4)")
    )
    assert exact.fp32_found == exact.found == 2
    # The key lies some 200 tokens before the question, which sees 64 and the first 4.
    assert (near.fp32_found, near.found) == (2, 0)
    assert near.nll_change.value > 1
