"""From the spec of a banked memory to the numbers that rule its channels."""

from collections.abc import Mapping

from accelsim.hardware.dram import ControllerSpec, DramShape, DramTiming

_COLUMN_WIDTH = 1


def ticks_per_clock(timing: DramTiming) -> int:
    """Return 2 where commands can take half a clock, else 1."""
    widths = (timing.activate_width, timing.precharge_width)
    return 1 if all(width == int(width) for width in widths) else 2


def command_ticks(timing: DramTiming) -> dict[str, int]:
    """Return the constraints between commands in ticks, from first tick to first tick.

    JEDEC counts from the last clock of a command that takes several (as Ramulator 2.1 has it).
    """
    t, clock = timing, ticks_per_clock(timing)
    act, pre = int(t.activate_width * clock), int(t.precharge_width * clock)
    column = _COLUMN_WIDTH * clock
    later = {"act": act - 1, "pre": pre - 1, "column": column - 1}

    def gap(clocks: int, first: str, second: str) -> int:
        return max(1, clocks * clock + later[first] - later[second])

    written = t.t_cwl + t.burst
    return {
        "act_to_read": gap(t.t_rcd_read, "act", "column"),
        "act_to_write": gap(t.t_rcd_write, "act", "column"),
        "act_to_pre": gap(t.t_ras, "act", "pre"),
        "act_to_act": t.t_rc * clock,
        "act_to_act_s": t.t_rrd_s * clock,
        "act_to_act_l": t.t_rrd_l * clock,
        "four_acts": t.t_faw * clock,
        "pre_to_act": gap(t.t_rp, "pre", "act"),
        "pre_to_pre": t.t_ppd * clock,
        "read_to_pre": gap(t.t_rtp, "column", "pre"),
        "write_to_pre": gap(written + t.t_wr, "column", "pre"),
        "column_s": max(t.burst, t.t_ccd_s) * clock,
        "column_l": max(t.burst, t.t_ccd_l) * clock,
        "column_r": max(t.burst, t.t_ccd_r) * clock,
        "read_to_write": t.t_rtw * clock,
        "write_to_read_s": (written + t.t_wtr_s) * clock,
        "write_to_read_l": (written + t.t_wtr_l) * clock,
        "read_delay": (t.t_cl + t.burst) * clock,
        "write_delay": written * clock,
        "pre_to_refresh": t.t_rp * clock,
        "act_to_refresh": t.t_rc * clock + later["act"] - later["pre"],
        "refresh_interval": t.t_refi * clock,
        "act_bus": act,
        "pre_bus": pre,
        "column_bus": column,
        "clock": clock,
    }


def parameters_of(
    shape: DramShape,
    timing: DramTiming,
    controller: ControllerSpec,
    policy: Mapping[str, int],
) -> dict[str, int]:
    """Return all that a channel is told, as both details of the banked memory need it.

    policy: `is_per_bank_refresh` and `is_closed_page`.
    """
    clock = ticks_per_clock(timing)
    values = command_ticks(timing) | dict(policy) | _controller(controller)
    values["refresh_to_act"] = timing.t_rfc * clock
    if policy["is_per_bank_refresh"]:
        values["refresh_to_act"] = timing.t_rfc_bank * clock
        interval = values["refresh_interval"] // shape.banks_of_pseudo_channel
        values["refresh_interval"] = max(1, interval)
    for name in ("pseudo_channels", "ranks", "rank_places", "bank_groups", "banks"):
        values[name] = getattr(shape, name)
    return values


def _controller(spec: ControllerSpec) -> dict[str, int]:
    return {
        "max_hits": spec.max_row_hits,
        "read_entries": spec.window,
        "write_entries": spec.write_window,
        # The queue is never fuller than full.
        "high_writes": min(int(spec.drain_above * spec.write_window), spec.write_window - 1),
        "low_writes": max(1, -int(-spec.drain_below * spec.write_window // 1)),
    }
