"""How is what curation found shown? As text, and as a page with the pictures that each filter objects to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from wm_gym.common.page import axes, fill, page, picture, png_uri
from wm_gym.data.clips import ClipData
from wm_gym.data.curation.curate import Curation, Finding, Lag

SHOWN, WIDTH = 6, 140  # episodes shown a filter; width of a picture


def curation_text(clips: ClipData, made: Curation) -> str:
    """A few lines that say what each filter found."""
    lines = [f"{len(clips)} episodes looked at, {len(made.selection.drop)} left out, {len(made.selection.cut)} split"]
    lines += [f"  damaged, and not looked at: episode {e}: {why}" for e, why in clips.meta.get("damaged", {}).items()]
    for one in made.findings:
        some = ", ".join(str(clips.numbers[e]) for e in sorted(one.found)[:10])
        some += ", ..." if len(one.found) > 10 else ""
        lines.append(f"  {one.name:<10} {len(one.found):>5}  {one.what}" + (f": episodes {some}" if some else ""))
    lines.append("  " + lag_text(made.lag))
    for name, count in made.angles.items():
        lines.append(
            f"  {name} wraps around +-pi {count} times: call it roll, pitch or yaw (info.json, names) and it "
            f"is taken as an angle"
        )
    lines.append(
        "  the dataset does not say which episodes succeed"
        if made.successes is None
        else f"  {made.successes} of {len(clips)} episodes succeed"
    )
    return "\n".join(lines)


def lag_text(lag: Lag) -> str:
    """A sentence that says what the lag is and how sure that is."""
    if not lag.r2:
        return "action lag: too few long episodes to estimate it"
    if lag.lag == lag.best:
        return (
            f"action lag: {lag.lag} frames ({lag.share:.0%} of bootstrap samples agree; R2 "
            f"{lag.r2[lag.lag]:.2f}, {lag.r2[0]:.2f} without correction)"
        )
    return (
        f"action lag: not corrected; {lag.best} frames fit best, in {lag.share:.0%} of bootstrap samples "
        f"(95 % are needed)"
    )


def curation_page(clips: ClipData, made: Curation) -> str:
    """The page: what was found, with the frames, what is done about it, and how well each lag fits."""
    body = fill(
        "curation.html",
        dataset=clips.meta["dataset"],
        tiles=[
            ("", len(clips), "episodes"),
            ("", len(made.selection.drop), "left out"),
            ("", len(made.selection.cut), "split at a cut"),
            ("", made.selection.action_lag, "frames of lag corrected"),
        ],
        findings=[(one, _strips(clips, one)) for one in made.findings],
        lag=lag_text(made.lag),
        lags=_lags(made.lag) if made.lag.r2 else "",
        summary=curation_text(clips, made),
    )
    return page("Curation", body)


def _lags(lag: Lag) -> Markup:
    figure, (axis,) = axes(1, (6.4, 2.4))
    axis.plot(list(lag.r2), list(lag.r2.values()), marker="o")
    axis.set_xlabel("frames by which the video follows its actions, beyond the next", fontsize=9)
    axis.set_title("held-out R2 of how much a frame changes", loc="left")
    return picture(figure, "R2 over the lag", dpi=110)


class Strip(NamedTuple):
    """Up to six frames around what was found in one episode."""

    number: int
    first: int
    last: int
    score: float
    picture: str


def _strips(clips: ClipData, finding: Finding) -> list[Strip]:
    """The episodes with the largest scores."""
    worst = sorted(finding.found.items(), key=lambda item: -item[1][0])[:SHOWN]
    return [_strip(clips, e, score, at) for e, (score, at) in worst]


def _strip(clips: ClipData, e: int, score: float, at: int) -> Strip:
    from PIL import Image

    start, end = clips.episode_offset[e : e + 2]
    first = int(np.clip(start + at - 3, start, max(start, end - 6)))
    frames = np.asarray(clips.frames[first : min(first + 6, end)])
    size = (WIDTH, round(WIDTH * frames.shape[1] / frames.shape[2]))
    row = np.concatenate([np.asarray(Image.fromarray(frame).resize(size)) for frame in frames], 1)
    first -= start
    return Strip(clips.numbers[e], first, first + len(frames) - 1, score, png_uri(row))
