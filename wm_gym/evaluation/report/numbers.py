"""How is a statistic written, so that what is undefined never looks like a number? Plain text and table cells."""

from __future__ import annotations

from typing import TypeAlias

from wm_gym.common.page import text
from wm_gym.common.statistics import Mean, Median, Rate

Stat: TypeAlias = Rate | Mean | Median


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A number with its unit, "undefined" for None."""
    return "undefined" if value is None else f"{round(value, digits) + 0.0:.{digits}f}{unit}"  # + 0.0: no "-0.0"


def percent(value: float | None, digits: int = 0) -> str:
    """A share as per cent, "undefined" for None."""
    return number(None if value is None else 100 * value, digits, " %")


def stated(stat: Stat, digits: int = 1, unit: str = "") -> str:
    """A `rate`, `median` or `mean` with its interval in brackets; what it is undefined for where it has none."""
    middle, between = _parts(stat, digits)
    return f"{middle}{unit if 'rate' not in stat else ''}" + (f" [{between}]" if between else "")


def cell(stat: Stat | float | None, digits: int = 1, why: str = "") -> str:
    """A table's cell (HTML): the middle over its interval; why: the reason where `stat` is None."""
    if not isinstance(stat, dict):
        return f"<td>{number(stat, digits)}{_small(why if stat is None else '', 'why')}</td>"
    middle, between = _parts(stat, digits)
    return f"<td>{text(middle)}{_small(between or 'no interval, n = ' + str(stat['n']))}</td>"


def share_cell(value: float | None, why: str) -> str:
    """A cell of a share that has no interval."""
    return cell(None, 0, why) if value is None else f"<td>{percent(value)}</td>"


def middle_of(stat: Stat) -> tuple[float | None, float | None, float | None]:
    """(middle, low, high) of a `rate`, `median` or `mean`; shares as they are."""
    if "rate" in stat:
        return (stat["rate"], stat["low"], stat["high"]) if stat["n"] else (None, None, None)
    return (stat["median"] if "median" in stat else stat["mean"]), stat["low"], stat["high"]


def table(head: list[str], rows: list[str], classes: str = "") -> str:
    """A table (HTML) that a narrow window scrolls; rows are HTML, the head is text."""
    titles = "".join(f"<th>{text(title)}</th>" for title in head)
    return f'<div class="wide"><table class="numbers {classes}"><tr>{titles}</tr>{"".join(rows)}</table></div>'


def row(name: str, cells: list[str], kind: str = "") -> str:
    """A table's row; kind: "world" or "physics" colours it."""
    return f'<tr class="{kind}"><th>{text(name)}</th>{"".join(cells)}</tr>'


def group(name: str, columns: int) -> str:
    """A row that heads those after it."""
    return f'<tr class="group"><th colspan="{columns}">{text(name)}</th></tr>'


def note(words: str) -> str:
    """What stands under a table, small (HTML)."""
    return f'<p class="note">{text(words)}</p>'


def _parts(stat: Stat, digits: int) -> tuple[str, str]:
    middle, low, high = middle_of(stat)
    if middle is None:
        return "undefined", "no such case, n = 0"
    if low is None or high is None:
        return number(middle, digits), ""
    if "rate" in stat:
        return percent(middle), f"{100 * low:.0f} to {100 * high:.0f} %"
    return number(middle, digits), f"{number(low, digits)} to {number(high, digits)}"


def _small(words: str, kind: str = "") -> str:
    return f"<small{f' class={kind}' if kind else ''}>{text(words)}</small>" if words else ""
