"""Drafts: tokens of a turn in closed form, the cost of a turn as a sum of steps, mistakes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from accelsim.cli.main import app
from accelsim.errors import AccelsimError, ConfigError, DoesNotFitError, WorkloadError
from accelsim.inference.acceptance import Acceptance, given_acceptance
from accelsim.inference.drafting import drafting_of
from accelsim.inference.request import infer
from accelsim.inference.speculation import check_of, speculate
from accelsim.models.families.registry import read_architecture
from accelsim.models.step import Sequences, Step
from accelsim.workload.drafting import Drafting
from tests.small_models import SMALL

CONFIG = {**SMALL, "max_position_embeddings": 400}


def saved(folder, **changes):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    return folder


@pytest.fixture(scope="module")
def draft(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / "draft", num_hidden_layers=1)


@pytest.fixture(scope="module")
def inference():
    return infer(read_architecture(CONFIG, ""), "ascend-910b", batch=2, prompt=32, output=9)


@given(st.floats(0.01, 0.99), st.integers(1, 16))
def test_independent_tokens_give_the_closed_form(rate, length):
    expected = (1 - rate ** (length + 1)) / (1 - rate)
    assert given_acceptance(rate, "sampled").tokens_per_turn(length) == pytest.approx(expected)


def test_rates_by_position():
    acceptance = given_acceptance([0.8, 0.5], "sampled")
    assert acceptance.tokens_per_turn(1) == 1.8
    assert acceptance.tokens_per_turn(2) == pytest.approx(1 + 0.8 + 0.4)
    # Behind the last position its rate of 0.5 holds on.
    assert acceptance.tokens_per_turn(4) == pytest.approx(1 + 0.8 + 0.4 + 0.2 + 0.1)


@pytest.mark.parametrize(("rate", "tokens"), [(0, 1.0), (1, 5.0)])
def test_drafts_that_are_never_and_always_kept(rate, tokens):
    assert given_acceptance(rate, "sampled").tokens_per_turn(4) == tokens


def test_shares_of_a_file(tmp_path):
    path = tmp_path / "quality.json"
    path.write_text(json.dumps({"accepted_shares": [0.9, 0.7], "greedy_accepted_shares": [0.95]}))
    sampled, greedy = (given_acceptance(str(path), each) for each in ("sampled", "greedy"))
    assert sampled == Acceptance((0.9, 0.7), str(path))
    assert greedy.shares == (0.95,)
    assert sampled.share(3) == pytest.approx(0.7 * 0.7 / 0.9)


def test_a_turn_is_the_sum_of_its_steps(inference, draft):
    found = speculate(inference, f"draft={draft}, length=3, acceptance=0.5")
    costs, middle = inference.costs, 32 + 4
    one = type(costs)(read_architecture(CONFIG | {"num_hidden_layers": 1}, ""), costs.devices)
    check = costs.cost(Step((Sequences(4, middle, 2, sampled=4),)))
    later = [one.cost(Step.decode(2, middle + place)) for place in (1, 2)]
    single = one.cost(Step.decode(2, middle))
    double = one.cost(Step((Sequences(2, middle - 1, 2),)))
    kept = 0.5**3
    for name, of in (("time_s", lambda x: x.time_s), ("energy_j", lambda x: x.energy_j)):
        passes = (1 - kept) * of(single) + kept * of(double) + sum(map(of, later))
        assert getattr(found.turn, name) == pytest.approx(of(check) + passes, rel=1e-12)
    assert found.turn.tokens == 1 + 0.5 + 0.25 + 0.125
    assert found.turns[0].time_s == costs.cost(Step.decode(2, middle)).time_s


def test_whole_requests(inference, draft):
    found = speculate(inference, f"draft={draft}, length=2, acceptance=0.5")
    turns = 8 / found.turn.tokens
    assert found.time_s == pytest.approx(found.time_to_first_token_s + turns * found.turn.time_s)
    assert found.time_to_first_token_s > inference.time_to_first_token_s
    assert found.tokens_per_s == pytest.approx(18 / found.time_s)
    assert found.energy_per_token_j == pytest.approx(found.energy_j / 18)
    assert found.memory.weights_bytes > inference.memory.weights_bytes
    assert found.memory.kv_bytes > inference.memory.kv_bytes
    data = found.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert [each["length"] for each in data["turns"]] == list(range(9))


def test_the_best_length_is_that_of_the_shortest_time(inference, draft):
    found = speculate(inference, f"draft={draft}, acceptance=1")
    times = {each.length: each.time_per_token_s for each in found.turns}
    assert found.length == found.best_length == min(times, key=times.get) > 0
    assert found.speedup == times[0] / times[found.length] > 1
    useless = speculate(inference, f"draft={draft}, acceptance=0")
    assert (useless.best_length, useless.length) == (0, 1)
    assert useless.speedup < 1


def test_what_is_not_known_is_told_as_assumed(inference, draft):
    assert speculate(inference, f"draft={draft}").to_dict()["acceptance_source"] == "assumed"


def test_a_check_needs_all_logits():
    assert check_of(3, 4, 100).sampled_rows == 15
    assert check_of(3, 4, 100).tokens == 15


def test_a_recipe_may_have_commas():
    asked = drafting_of("draft=x, linear=uniform(tile_m=16, tile_n=16), acceptance=[0.9, 0.8]")
    assert asked == Drafting(
        draft="x", linear="uniform(tile_m=16, tile_n=16)", acceptance=[0.9, 0.8]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smollm2-135m", "speculate 'smollm2-135m': found 'smollm2-135m' where key=value is"),
        ("draft=x, draft=y", "speculate 'draft=x, draft=y': found 'draft' twice; allowed: once"),
        ("length=4", "speculate: draft: missing"),
        ("draft=x, length=0", "speculate: length: found 0"),
        ("draft=x, length=17", "speculate: length: found 17"),
        ("draft=x, lenght=4", "did you mean 'length'"),
        ("draft=x, sampling=beam", "speculate: sampling: found 'beam'"),
    ],
)
def test_texts_that_ask_for_no_draft(text, message):
    with pytest.raises(ConfigError) as caught:
        drafting_of(text)
    assert message in str(caught.value)


def test_acceptances_that_cannot_be(tmp_path):
    for asked in (1.5, -0.1, [0.5, 2], []):
        with pytest.raises(WorkloadError) as caught:
            given_acceptance(asked, "sampled")
        assert str(caught.value) == (
            f"acceptance: found {asked}, allowed: a rate of 0 to 1, a list of rates by position, "
            f"or JSON of `accelsim quality`"
        )
    with pytest.raises(WorkloadError, match="cannot be read as JSON"):
        given_acceptance(str(tmp_path / "none.json"), "sampled")
    for number, content in enumerate(("{}", "[1]", '{"accepted_shares": [2]}', "no")):
        path = tmp_path / f"{number}.json"
        path.write_text(content)
        with pytest.raises(WorkloadError, match=r"cannot be read as JSON|found no shares under"):
            given_acceptance(str(path), "sampled")


def test_a_draft_with_another_vocabulary(inference, tmp_path):
    other = saved(tmp_path / "other", vocab_size=1000)
    with pytest.raises(WorkloadError) as caught:
        speculate(inference, f"draft={other}")
    assert str(caught.value) == (
        f"speculate: draft {other}: found a vocabulary of 1,000 tokens, allowed: 512, that of the "
        f"model; a draft writes what the model reads"
    )


def test_a_draft_with_a_short_context(inference, tmp_path):
    short = saved(tmp_path / "short", max_position_embeddings=48)
    with pytest.raises(WorkloadError) as caught:
        speculate(inference, f"draft={short}")
    assert str(caught.value) == (
        "speculate: found 49 tokens of prompt, output and draft, allowed: 48, the longest context "
        "of the draft"
    )


def test_a_draft_that_does_not_fit_beside_the_model():
    found = infer("llama-3.1-8b", "ascend-910b", prompt=64, output=2)
    with pytest.raises(DoesNotFitError, match="GB short; "):
        speculate(found, "draft=llama-3.1-70b")


def test_the_command(draft, tmp_path):
    model = saved(tmp_path / "model")
    words = ["infer", "--model", model, "--system", "ascend-910b", "--prompt", 32, "--output", 4]
    runner, asked = CliRunner(), f"draft={draft}, length=2, acceptance=0.8"
    done = runner.invoke(app, [*map(str, words), "--speculate", asked, "--format", "json", "-q"])
    assert done.exit_code == 0
    data = json.loads(done.stdout)["speculation"]
    assert (data["length"], data["tokens_per_turn"]) == (2, pytest.approx(2.44))
    shown = runner.invoke(app, [*map(str, words), "--speculate", asked, "-q"])
    assert "drafts of 2 tokens" in shown.stdout
    assert "80%, 64% (given)" in shown.stdout
    failed = runner.invoke(app, [*map(str, words), "--speculate", "draft=nope"])
    assert failed.exit_code == AccelsimError.exit_code
