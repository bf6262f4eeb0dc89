"""Tables of an inference."""

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from accelsim.errors import printable
from accelsim.inference.report import Inference
from accelsim.inference.speculation import Speculation
from accelsim.report.quantity import quantity_of


def inference_tables(found: Inference) -> Group:
    """Return the figures of a request, and the time by operation."""
    return Group(_figures(found), _operations(found))


def speculation_tables(found: Speculation) -> Group:
    """Return what a draft is worth, and turns of each length."""
    show = {name: quantity_of(name).show for name in ("x_s", "x_j", "x_bytes")}
    turn, memory = found.turn, found.memory
    table = Table("", f"drafts of {found.length} tokens by {escape(printable(found.draft))}")
    shares = ", ".join(f"{found.acceptance.share(each):.0%}" for each in range(1, found.length + 1))
    per_token = show["x_s"](turn.time_per_token_s)
    rows = {
        "kept up to each token": f"{shares} ({printable(found.acceptance.source)})",
        "tokens per turn": f"{turn.tokens:.3g}",
        "time to first token": show["x_s"](found.time_to_first_token_s),
        "time per token": f"{per_token}, {found.speedup:.2f} times as fast",
        "all tokens": show["x_s"](found.time_s),
        "output": f"{found.tokens_per_s:.4g} tokens/s",
        "energy per token": show["x_j"](found.energy_per_token_j),
        "best length": str(found.best_length) if found.best_length else "0: plain steps are faster",
        "middle for mean": f"turns are off by up to {found.context_error:.2%}",
        "free": f"{show['x_bytes'](memory.free_bytes)} of {show['x_bytes'](memory.capacity_bytes)}",
    }
    for name, text in rows.items():
        table.add_row(name, escape(text))
    return Group(table, _turns(found))


def _turns(found: Speculation) -> Table:
    show_s, show_j = quantity_of("x_s").show, quantity_of("x_j").show
    table = Table()
    for name in ("draft", "tokens per turn", "of drafts", "turn", "per token", "J per token"):
        table.add_column(name, justify="right")
    for each in found.turns:
        table.add_row(
            str(each.length),
            f"{each.tokens:.3g}",
            show_s(each.draft_time_s),
            show_s(each.time_s),
            show_s(each.time_per_token_s),
            show_j(each.energy_per_token_j(found.batch)),
        )
    return table


def _figures(found: Inference) -> Table:
    show = {name: quantity_of(name).show for name in ("x_s", "x_j", "x_bytes")}
    memory, asked = found.memory, found.requests
    table = Table("", f"{escape(printable(found.model))} on {escape(printable(found.system))}")
    rows = {
        "requests": f"{asked.batch} of {asked.prompt} + {asked.output} tokens",
        "time to first token": show["x_s"](found.time_to_first_token_s),
        "time per token": show["x_s"](found.time_per_token_s),
        "all tokens": show["x_s"](found.time_s),
        "output": f"{found.tokens_per_s:.4g} tokens/s",
        "energy per token": show["x_j"](found.energy_per_token_j),
        "weights": show["x_bytes"](memory.weights_bytes),
        "KV cache": show["x_bytes"](memory.kv_bytes),
        "activations": show["x_bytes"](memory.activation_bytes),
        "free": f"{show['x_bytes'](memory.free_bytes)} of {show['x_bytes'](memory.capacity_bytes)}",
        "largest batch": str(found.largest_batch),
    }
    if found.interpolation_error:
        rows["interpolated"] = f"steps are off by up to {found.interpolation_error:.2%}"
    if found.sampling_error:
        rows["sampled"] = f"times are within {found.sampling_error:.2%}, in 95 of 100 cases"
    if found.sampling_note:
        rows["not estimated"] = found.sampling_note
    if found.draw_spread:
        rows["experts"] = f"drawn loads differ by up to {found.draw_spread:.2%}"
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _operations(found: Inference) -> Table:
    show_s, show_bytes = quantity_of("x_s").show, quantity_of("x_bytes").show
    prefill, decode = found.prefill, found.decode
    names = dict.fromkeys([*prefill.time_by_operation_s, *decode.time_by_operation_s])
    table = Table("operation", "prefill", "share", "step", "share", "kernel of a step")
    for name in names:
        cells: list[str] = []
        for phase in (prefill, decode):
            time_s = phase.time_by_operation_s.get(name)
            if time_s is None:
                cells += ["", ""]
            else:
                cells += [show_s(time_s), f"{time_s / phase.time_s:.1%}"]
        recipe = decode.recipes.get(name, prefill.recipes.get(name, ""))
        table.add_row(name, *cells, escape(recipe))
    table.add_section()
    both = (prefill, decode)
    table.add_row("all", *(cell for each in both for cell in (show_s(each.time_s), "")), "")
    if any(each.expert_imbalance > 1 for each in both):
        rows = {
            "most rows of experts": [f"{each.expert_imbalance:.2f} x mean" for each in both],
            "wait for experts": [f"{each.expert_wait:.1%}" for each in both],
        }
        for name, texts in rows.items():
            table.add_row(name, *(cell for text in texts for cell in (text, "")), "")
    if any(each.bubble for each in both):
        table.add_row("bubble", *(cell for each in both for cell in (f"{each.bubble:.1%}", "")), "")
    table.add_row("MFU", *(cell for each in both for cell in (f"{each.mfu:.1%}", "")), "")
    table.add_row("MBU", *(cell for each in both for cell in (f"{each.mbu:.1%}", "")), "")
    table.add_row("HBM", *(cell for each in both for cell in (show_bytes(each.hbm_bytes), "")), "")
    table.add_row("bound by", *(cell for each in both for cell in (each.bound_by, "")), "")
    return table
