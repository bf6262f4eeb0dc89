import json
from dataclasses import replace

import numpy as np
import pytest

from accelsim.loading import LoadedWorkload
from accelsim.numerics.formats import Format
from accelsim.quality.display import quality_table, texts_table
from accelsim.quality.losses import MEASURED
from accelsim.quality.report import QualityReport, TextQuality
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


def text_of(losses, name="t.txt", is_calibrated_on=False):
    return TextQuality.of(
        losses,
        FP32_LOSSES,
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
    assert report.nll_change == 0.25
    # Deviations 0.25, -0.75, 0, 0.5: their squares sum to 0.875, over (4 - 1) and over 4.
    assert report.nll_change_se == pytest.approx((0.875 / 3 / 4) ** 0.5, rel=1e-15)
    assert report.perplexity == pytest.approx(np.exp(3.25), rel=1e-15)
    assert report.fp32_perplexity == pytest.approx(np.exp(3.0), rel=1e-15)
    assert report.perplexity_change == pytest.approx(np.exp(0.25) - 1, rel=1e-14)
    expected = np.exp(0.25) * (0.875 / 3 / 4) ** 0.5
    assert report.perplexity_change_se == pytest.approx(expected, rel=1e-14)
    assert report.spread is None


def test_of_several_texts_all_is_the_mean_and_what_was_not_calibrated_on_is_apart(cost):
    seen = text_of(FP32_LOSSES + CHANGES - 0.25, "seen", is_calibrated_on=True)
    one, other = (text_of(FP32_LOSSES + CHANGES + more, str(more)) for more in (0.25, 0.75))
    report = report_of(cost, seen, one, other)
    se = (0.875 / 3 / 4) ** 0.5
    assert (report.tokens, report.nll_change) == (12, pytest.approx((0 + 0.5 + 1) / 3))
    assert report.nll_change_se == pytest.approx(se * 3**0.5 / 3, rel=1e-14)
    assert (report.unseen.tokens, report.unseen.nll_change) == (8, 0.75)
    assert report.unseen.nll_change_se == pytest.approx(se / 2**0.5, rel=1e-14)
    # Two numbers differ from their mean by half their distance each.
    assert report.spread == pytest.approx((np.e - np.e**0.5) / 2**0.5, rel=1e-14)


def test_where_all_was_calibrated_on_nothing_is_apart(cost):
    texts = [text_of(FP32_LOSSES + more, str(more), is_calibrated_on=True) for more in (0, 1)]
    report = report_of(cost, *texts)
    assert report.unseen is None
    assert report.to_dict()["unseen"] is None
    assert report.spread == pytest.approx((np.e - 1) / 2**0.5, rel=1e-14)


def test_one_text_without_a_finite_loss_leaves_no_mean(cost):
    report = report_of(cost, FP32_LOSSES, text_of(FP32_LOSSES * np.nan, "other"))
    assert (report.nll, report.nll_change_se, report.spread) == (None, None, None)
    assert report.nonfinite_losses == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_leaves_no_perplexity(cost, bad):
    report = report_of(cost, np.array([1.0, bad, 3.0, bad]))
    assert report.nonfinite_losses == 2
    assert report.fp32_nll == 3.0
    for name in ("nll", "nll_change", "nll_change_se", "perplexity", "perplexity_change"):
        assert getattr(report, name) is None


def test_a_perplexity_beyond_the_largest_number_is_none(cost):
    report = report_of(cost, FP32_LOSSES + 1000)
    assert (report.nll, report.perplexity) == (1003.0, None)


def test_the_dictionary_holds_quality_and_cost_as_plain_data(cost):
    found = report_of(cost, FP32_LOSSES + CHANGES).to_dict()
    assert json.loads(json.dumps(found)) == found
    own = {
        "model": "smollm2",
        "dtype": "fp16",
        "tokens": 4,
        "window": 2,
        "nonfinite_losses": 0,
        "nonfinite_outputs": 3,
        "spread": None,
    }
    assert own.items() <= found.items()
    (text,) = found["texts"]
    assert text == {
        "text": "t.txt",
        "text_sha256": "00ff" * 16,
        "is_calibrated_on": False,
    } | {name: found[name] for name in MEASURED}
    assert found["unseen"] == {name: found[name] for name in MEASURED}
    of_cost = cost.to_dict()
    shared = set(of_cost) - {"workload", "seed", "accuracy"}
    others = {"texts", "unseen", "attention", "linears"}
    assert set(found) == set(own) | set(MEASURED) | others
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
        "change of the perplexity": "+28.403%",
        "change of the NLL in nats": "+2.50e-01",
        "its standard error": "2.70e-01",
        "tokens without a finite loss": "0",
        "outputs not finite": "3",
        "mean kept fraction": "0.25",
        "attention: recipe": "flash",
        "attention: cycles": f"{cost.cycles:,} cycles",
        "attention: bound by": cost.bound_by,
        # q, k, v: (2 + 1 + 1) heads x 8 rows x 16 elements x 2 bytes, as both heads are folded.
        "attention: HBM read": "1.024 kB",
    }
    assert shown.items() <= rows.items()
    assert table.caption == "t.txt, SHA-256 00ff00ff00ff00ff"
    assert not [name for name in rows if "calibrated" in name or "spread" in name]


def test_of_several_texts_each_has_a_row_and_the_headline_is_what_is_new(cost):
    seen = text_of(FP32_LOSSES, "seen", is_calibrated_on=True)
    report = report_of(cost, seen, text_of(FP32_LOSSES + CHANGES, "new"))
    columns = [column._cells for column in texts_table(report).columns]
    first, second = zip(*columns, strict=True)
    assert first == ("seen", "20.0855", "20.0855", "+0.000%", "0.000%", "yes", "00ff" * 4)
    assert second == ("new", "20.0855", "25.7903", "+28.403%", "34.673%", "no", "00ff" * 4)
    names, values = (column._cells for column in quality_table(report).columns)
    headline = list(zip(names, values, strict=True))[:3]
    assert headline == [
        ("change on texts not calibrated on", "+28.403%"),
        ("its standard error", "34.673%"),
        ("spread over those texts", "-"),
    ]
    assert len(report.__rich__().renderables) == 2


def test_the_table_shows_what_does_not_exist_as_a_dash(cost):
    table = quality_table(report_of(cost, FP32_LOSSES * np.nan))
    rows = dict(zip(*(column._cells for column in table.columns), strict=True))
    assert (rows["perplexity"], rows["its standard error"]) == ("-", "-")
