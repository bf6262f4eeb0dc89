"""A quality report as tables for the terminal."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from accelsim.report.quantity import quantity_of, words

if TYPE_CHECKING:
    from accelsim.quality.estimate import Estimate
    from accelsim.quality.generate import GenerationReport
    from accelsim.quality.layers import LayerCost
    from accelsim.quality.report import QualityReport, TextQuality
    from accelsim.quality.speculate import SpeculationReport
    from accelsim.report.report import Report

_COST = ("recipe", "cycles", "time_s", "bound_by", "hbm_read_bytes", "hbm_write_bytes", "energy_j")

Row = tuple[str, str]


def quality_tables(report: "QualityReport") -> Group:
    """Return the table of the whole; before it that of the texts, behind it that of the layers.

    Where there is one text, or where no layer selects anything, there is no such table.
    """
    texts = [texts_table(report)] if len(report.texts) > 1 else []
    return Group(*texts, quality_table(report), *_layers(report.layers))


def _layers(layers: "Sequence[LayerCost]") -> list[Table]:
    """Return the table of the layers, if they select anything."""
    return [layers_table(layers)] if any(each.statistics for each in layers) else []


def layers_table(layers: "Sequence[LayerCost]") -> Table:
    """Return what the attention kept, moved and lost in each layer."""
    table = Table(title="attention by layer", title_justify="left")
    names = list(layers[0].statistics)
    for name in ("layer", "error", "HBM read", *(words(each) for each in names)):
        table.add_column(name, justify="right")
    read = quantity_of("hbm_read_bytes")
    for each in layers:
        kept = [f"{each.statistics[name]:.3g}" for name in names]
        error, moved = _number(each.relative_error, ".3%"), read.show(each.hbm_read_bytes)
        table.add_row(str(each.layer), error, moved, *kept)
    return table


def texts_table(report: "QualityReport") -> Table:
    """Return what happened to each text, a row a text."""
    table = _table(
        report, title=f"change of the perplexity, {report.texts[0].tokens:,} tokens a text"
    )
    table.add_column("text")
    for name in ("in FP32", "with kernels", "change", "by token", "same greedy token", "KL, nats"):
        table.add_column(name, justify="right")
    table.add_column("calibrated on")
    table.add_column("SHA-256")
    for text in report.texts:
        table.add_row(*map(escape, _text_row(text)))
    return table


def _text_row(text: "TextQuality") -> Iterator[str]:
    change = text.perplexity_change
    yield text.text
    yield _number(text.fp32_perplexity, ".4f")
    yield _number(text.perplexity, ".4f")
    yield with_error(change, "+.3%")
    yield _error(change.token_se, "+.3%")
    yield with_error(text.greedy_agreement, ".2%")
    yield with_error(text.kl, ".2e")
    yield "yes" if text.is_calibrated_on else "no"
    yield text.text_sha256[:16]


def quality_table(report: "QualityReport") -> Table:
    """Return what happened to all text, and what the kernels selected and cost."""
    costs = [cost for cost in (report.attention, report.linears) if cost is not None]
    kernels = " and ".join(cost.kernel for cost in costs)
    table = _table(report, title=f"{kernels} in {report.model} on {costs[0].machine}")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    sections = [_headline(report), _text(report), _quality(report)]
    for part in ("prefill", "attention", "linears"):
        cost = getattr(report, part)
        if cost is not None:
            sections += [_statistics(cost), _cost(part, cost)]
    for section in sections:
        for row in section:
            table.add_row(*map(escape, row))
        table.add_section()
    return table


def generation_table(report: "GenerationReport") -> Group:
    """Return what was written, and what it cost."""
    costs = {name: getattr(report, name) for name in ("prefill", "attention", "linears")}
    kernels = " and ".join(cost.recipe for cost in costs.values() if cost is not None)
    table = Table(title=escape(f"{report.model} with {kernels}"), title_justify="left")
    table.add_column("quantity")
    table.add_column("value")
    tokens = len(report.token_ids)
    for row in (
        ("prompt", f"{report.prompt:,} tokens of {report.text}"),
        ("tokens written", f"{tokens:,}"),
        ("same as in FP32", f"the first {report.same_tokens:,}"),
        ("written", report.written),
        ("written in FP32", report.fp32_written),
    ):
        table.add_row(*map(escape, row))
    for part, cost in costs.items():
        if cost is not None:
            table.add_section()
            for row in (*_statistics(cost), *_cost(part, cost)):
                table.add_row(*map(escape, row))
    return Group(table, *_layers(report.layers))


def speculation_table(report: "SpeculationReport") -> Table:
    """Return what a draft was worth, and what was written."""
    title = f"{report.model} with {report.kernels} drafts for {report.model} in FP32"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("quantity")
    table.add_column("value")
    shares = ", ".join(f"{share:.0%}" for share in report.accepted_shares)
    for row in (
        ("prompt", f"{report.prompt:,} tokens of {report.text}"),
        ("tokens written", f"{len(report.token_ids):,} in {len(report.accepted):,} turns"),
        ("tokens of a draft", str(report.length)),
        ("drafts kept up to each token", shares),
        ("tokens per turn", f"{report.tokens_per_turn:.2f}"),
        ("written", report.written),
    ):
        table.add_row(*map(escape, row))
    return table


def _table(report: "QualityReport", title: str) -> Table:
    names = [f"{text.text}, SHA-256 {text.text_sha256[:16]}" for text in report.texts]
    caption = names[0] if len(names) == 1 else None
    return Table(title=title, caption=caption, title_justify="left", caption_justify="left")


def _headline(report: "QualityReport") -> Iterator[Row]:
    """Yield the loss on what was not calibrated on, where that is not simply all there is."""
    if any(text.is_calibrated_on for text in report.texts):
        unseen = report.unseen
        name = "change on texts not calibrated on"
        yield name, "-" if unseen is None else with_error(unseen.perplexity_change, "+.3%")
    if len(report.texts) > 1:
        yield "spread over those texts", _number(report.spread, ".3%")


def _text(report: "QualityReport") -> Iterator[Row]:
    yield "tokens", f"{report.tokens:,} in windows of {report.window:,}"
    if report.prompt:
        yield "prompt of a window", f"{report.prompt:,}, the others decoded one by one"
    if report.kv is not None:
        yield "keys and values in", str(report.kv)
    yield "tensors in HBM", str(report.dtype)


def _quality(report: "QualityReport") -> Iterator[Row]:
    yield "perplexity in FP32", _number(report.fp32_perplexity, ".4f")
    yield "perplexity", _number(report.perplexity, ".4f")
    yield "standard errors are over", f"{report.se_units:,} {report.se_unit}"
    for name, estimate, form in (
        ("change of the perplexity", report.perplexity_change, "+.3%"),
        ("change of the NLL in nats", report.nll_change, "+.2e"),
        ("same greedy token as in FP32", report.greedy_agreement, ".2%"),
        ("KL divergence from FP32 in nats", report.kl, ".2e"),
        ("KL divergence of 99% is below", report.kl_p99, ".2e"),
        ("accepted of a draft's tokens", report.acceptance, ".2%"),
    ):
        yield name, with_error(estimate, form)
        if report.se_unit != "tokens":
            yield "its standard error by token", _error(estimate.token_se, form)
    yield "tokens without a finite loss", f"{report.nonfinite_losses:,}"
    yield "outputs not finite", f"{report.nonfinite_outputs:,}"


def with_error(estimate: "Estimate", form: str) -> str:
    """Return a value and its standard error."""
    if estimate.value is None:
        return "-"
    return f"{format(estimate.value, form)} ± {_error(estimate.se, form)}"


def _error(se: float | None, form: str) -> str:
    return _number(se, form.removeprefix("+"))


def _statistics(cost: "Report") -> Iterator[Row]:
    for name, value in cost.statistics.items():
        yield f"mean {words(name)}", f"{value:.4g}"


def _cost(part: str, cost: "Report") -> Iterator[Row]:
    for name in _COST:
        quantity = quantity_of(name)
        yield f"{part}: {quantity.title}", quantity.show(getattr(cost, name))
    for name, joules in cost.energy_by_component_j.items():
        yield f"{part}: energy of {words(name)}", quantity_of("energy_j").show(joules)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
