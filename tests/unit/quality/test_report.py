import json
from dataclasses import replace

import numpy as np
import pytest

from accelsim.loading import LoadedWorkload
from accelsim.numerics.formats import Format
from accelsim.quality.display import quality_table, texts_table
from accelsim.quality.predictions import Predictions
from accelsim.quality.report import QualityReport, TextQuality
from accelsim.quality.summary import measured
from accelsim.simulation import simulate
from accelsim.workload.problem import AttentionProblem

SHAPE = {"q_heads": 2, "kv_heads": 1, "head_dim": 16, "q_len": 8, "kv_len": 8, "causal": True}
FP32_LOSSES = np.array([1.0, 2.0, 3.0, 6.0])
CHANGES = np.array([0.5, -0.5, 0.25, 0.75])


@pytest.fixture(scope="module")
def cost(tmp_path_factory):
    problem = AttentionProblem(kind="attention", name="x", **SHAPE)
    report = simulate(
        "ascend-910b-no-l2", LoadedWorkload(problem, tmp_path_factory.mktemp("x")), "flash"
    )
    return replace(report, statistics={"kept_fraction": 0.25})


AGREES = np.array([1.0, 1.0, 0.0, 1.0])
KL = np.array([0.0, 0.1, 0.2, 0.1])


def text_of(losses, name="t.txt", is_calibrated_on=False, windows=1):
    columns = [
        np.split(each, windows)
        for each in (losses, FP32_LOSSES, AGREES, AGREES, AGREES, KL, AGREES)
    ]
    return TextQuality.of(
        [Predictions(*parts) for parts in zip(*columns, strict=True)],
        text=name,
        text_sha256="00ff" * 16,
        is_calibrated_on=is_calibrated_on,
    )


def report_of(cost, *texts):
    texts = [each if isinstance(each, TextQuality) else text_of(each) for each in texts]
    return QualityReport.of_texts(
        tuple(texts),
        attention=cost,
        linears=None,
        nonfinite_outputs=3,
        model="smollm2",
        dtype=Format.FP16,
        window=2,
    )


def test_the_mean_change_and_its_standard_error(cost):
    report = report_of(cost, FP32_LOSSES + CHANGES)
    assert report.fp32_nll == 3.0
    assert report.nll == 3.25
    # Deviations 0.25, -0.75, 0, 0.5: their squares sum to 0.875, over (4 - 1) and over 4.
    se = (0.875 / 3 / 4) ** 0.5
    assert report.nll_change == pytest.approx((0.25, se, se), rel=1e-15)
    assert (report.se_unit, report.se_units) == ("tokens", 4)
    assert report.perplexity == pytest.approx(np.exp(3.25), rel=1e-15)
    assert report.fp32_perplexity == pytest.approx(np.exp(3.0), rel=1e-15)
    expected = (np.exp(0.25) - 1, np.exp(0.25) * se, np.exp(0.25) * se)
    assert report.perplexity_change == pytest.approx(expected, rel=1e-14)
    assert report.spread is None


def test_windows_are_what_is_independent_in_a_text(cost):
    report = report_of(cost, text_of(FP32_LOSSES + CHANGES, windows=2))
    assert (report.se_unit, report.se_units) == ("windows", 2)
    # Means of the windows are 0 and 0.5.
    by_token = (0.875 / 3 / 4) ** 0.5
    assert report.nll_change == pytest.approx((0.25, 0.25, by_token), rel=1e-15)


def test_agreement_and_divergence_have_errors_too(cost):
    report = report_of(cost, text_of(FP32_LOSSES, windows=2))
    # Three of four tokens agree, both of the first window; of the 0/1 values the variance is 1/4.
    assert report.greedy_agreement == pytest.approx((0.75, 0.25, (0.25 / 4) ** 0.5))
    # Deviations -0.1, 0, 0.1, 0 of the divergences; means of the windows 0.05 and 0.15.
    assert report.kl == pytest.approx((0.1, 0.05, (0.02 / 3 / 4) ** 0.5))
    assert report.kl_p99.value == pytest.approx(np.quantile(KL, 0.99))
    both = report_of(cost, FP32_LOSSES, text_of(FP32_LOSSES, "other"))
    assert both.greedy_agreement == pytest.approx((0.75, 0.0, (0.25 / 4 / 2) ** 0.5))


def test_of_several_texts_all_is_the_mean_and_what_was_not_calibrated_on_is_apart(cost):
    seen = text_of(FP32_LOSSES + CHANGES - 0.25, "seen", is_calibrated_on=True)
    one, other = (text_of(FP32_LOSSES + CHANGES + more, str(more)) for more in (0.25, 0.75))
    report = report_of(cost, seen, one, other)
    by_token = (0.875 / 3 / 4) ** 0.5
    # Changes 0, 0.5 and 1: their standard deviation is 0.5.
    expected = (0.5, 0.5 / 3**0.5, by_token / 3**0.5)
    assert report.nll_change == pytest.approx(expected, rel=1e-14)
    assert (report.tokens, report.se_unit, report.se_units) == (12, "texts", 3)
    assert (report.unseen.tokens, report.unseen.se_units) == (8, 2)
    # Two numbers differ from their mean by half their distance each.
    expected = (0.75, 0.25, by_token / 2**0.5)
    assert report.unseen.nll_change == pytest.approx(expected, rel=1e-14)
    assert report.spread == pytest.approx((np.e - np.e**0.5) / 2**0.5, rel=1e-14)


def test_a_single_text_that_is_new_keeps_its_own_error(cost):
    seen = text_of(FP32_LOSSES, "seen", is_calibrated_on=True)
    new = text_of(FP32_LOSSES + CHANGES, "new", windows=2)
    unseen = report_of(cost, seen, new).unseen
    assert unseen.nll_change == new.nll_change
    assert (unseen.se_unit, unseen.se_units) == ("windows", 2)


def test_where_all_was_calibrated_on_nothing_is_apart(cost):
    texts = [text_of(FP32_LOSSES + more, str(more), is_calibrated_on=True) for more in (0, 1)]
    report = report_of(cost, *texts)
    assert report.unseen is None
    assert report.to_dict()["unseen"] is None
    assert report.spread == pytest.approx((np.e - 1) / 2**0.5, rel=1e-14)


def test_one_text_without_a_finite_loss_leaves_no_mean(cost):
    report = report_of(cost, FP32_LOSSES, text_of(FP32_LOSSES * np.nan, "other"))
    assert (report.nll, report.nll_change.se, report.spread) == (None, None, None)
    assert report.nonfinite_losses == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_leaves_no_perplexity(cost, bad):
    report = report_of(cost, np.array([1.0, bad, 3.0, bad]))
    assert report.nonfinite_losses == 2
    assert report.fp32_nll == 3.0
    assert (report.nll, report.perplexity) == (None, None)
    for estimate in (report.nll_change, report.perplexity_change):
        assert estimate == (None, None, None)


def test_a_perplexity_beyond_the_largest_number_is_none(cost):
    report = report_of(cost, FP32_LOSSES + 1000)
    assert (report.nll, report.perplexity) == (1003.0, None)


def test_the_dictionary_holds_quality_and_cost_as_plain_data(cost):
    report = report_of(cost, FP32_LOSSES + CHANGES)
    found = report.to_dict()
    numbers = measured(report)
    assert json.loads(json.dumps(found)) == found
    own = {
        "model": "smollm2",
        "dtype": "fp16",
        "tokens": 4,
        "window": 2,
        "prompt": 0,
        "kv": None,
        "prefill": None,
        "layers": [],
        "nonfinite_losses": 0,
        "nonfinite_outputs": 3,
        "spread": None,
    }
    assert own.items() <= found.items()
    (text,) = found["texts"]
    assert (
        text
        == {
            "text": "t.txt",
            "text_sha256": "00ff" * 16,
            "is_calibrated_on": False,
        }
        | numbers
    )
    assert found["unseen"] == numbers
    assert numbers["kl_token_se"] == report.kl.token_se
    assert numbers["perplexity_change_se"] == report.perplexity_change.se
    of_cost = cost.to_dict()
    shared = set(of_cost) - {"workload", "seed", "accuracy"}
    others = {"texts", "unseen", "attention", "linears"}
    assert set(found) == set(own) | set(numbers) | others
    assert found["attention"] == {name: of_cost[name] for name in shared}
    assert found["linears"] is None


def test_the_table_shows_text_quality_selection_and_cost(cost):
    table = quality_table(report_of(cost, FP32_LOSSES + CHANGES))
    rows = dict(zip(*(column._cells for column in table.columns), strict=True))
    shown = {
        "tokens": "4 in windows of 2",
        "tensors in HBM": "fp16",
        "perplexity in FP32": "20.0855",
        "perplexity": "25.7903",
        "standard errors are over": "4 tokens",
        "change of the perplexity": "+28.403% ± 34.673%",
        "change of the NLL in nats": "+2.50e-01 ± 2.70e-01",
        "same greedy token as in FP32": "75.00% ± 25.00%",
        "KL divergence from FP32 in nats": "1.00e-01 ± 4.08e-02",
        "tokens without a finite loss": "0",
        "outputs not finite": "3",
        "mean kept fraction": "0.25",
        "attention: recipe": "flash",
        "attention: cycles": f"{cost.cycles:,} cycles",
        "attention: bound by": cost.bound_by,
        # q, k, v: 2 x (1 + 1 + 1) heads x 8 rows x 16 elements x 2 bytes: so few rows are faster
        # on two cores than folded on one.
        "attention: HBM read": "1.536 kB",
    }
    assert shown.items() <= rows.items()
    assert table.caption == "t.txt, SHA-256 00ff00ff00ff00ff"
    assert not [name for name in rows if "calibrated" in name or "spread" in name]
    assert "its standard error by token" not in rows


def test_the_error_by_token_is_shown_where_it_is_another(cost):
    table = quality_table(report_of(cost, text_of(FP32_LOSSES + CHANGES, windows=2)))
    names, values = (column._cells for column in table.columns)
    rows = list(zip(names, values, strict=True))
    assert ("standard errors are over", "2 windows") in rows
    place = rows.index(("change of the NLL in nats", "+2.50e-01 ± 2.50e-01"))
    assert rows[place + 1] == ("its standard error by token", "2.70e-01")


def test_of_several_texts_each_has_a_row_and_the_headline_is_what_is_new(cost):
    seen = text_of(FP32_LOSSES, "seen", is_calibrated_on=True)
    report = report_of(cost, seen, text_of(FP32_LOSSES + CHANGES, "new"))
    columns = [column._cells for column in texts_table(report).columns]
    first, second = zip(*columns, strict=True)
    others = ("75.00% ± 25.00%", "1.00e-01 ± 4.08e-02")
    same, more = ("+0.000% ± 0.000%", "0.000%"), ("+28.403% ± 34.673%", "34.673%")
    assert first == ("seen", "20.0855", "20.0855", *same, *others, "yes", "00ff" * 4)
    assert second == ("new", "20.0855", "25.7903", *more, *others, "no", "00ff" * 4)
    names, values = (column._cells for column in quality_table(report).columns)
    headline = list(zip(names, values, strict=True))[:2]
    assert headline == [
        ("change on texts not calibrated on", "+28.403% ± 34.673%"),
        ("spread over those texts", "-"),
    ]
    assert len(report.__rich__().renderables) == 2


def test_the_table_shows_what_does_not_exist_as_a_dash(cost):
    table = quality_table(report_of(cost, FP32_LOSSES * np.nan))
    rows = dict(zip(*(column._cells for column in table.columns), strict=True))
    assert (rows["perplexity"], rows["change of the perplexity"]) == ("-", "-")
