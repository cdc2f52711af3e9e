"""What do the measurements of a world say in words: what to trust, what fails, and what to record next?

Every sentence states the number that it is drawn from. The limits below are where a rule fires; they are conventions,
not results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote

from wm_gym.common.records import Blank
from wm_gym.evaluation.metrics.control import DeltaPsnr, Obedience
from wm_gym.evaluation.metrics.drift import Drifted, DriftResult
from wm_gym.evaluation.metrics.survival import Survival
from wm_gym.evaluation.metrics.violations import Broken
from wm_gym.evaluation.report.found import Found
from wm_gym.evaluation.report.numbers import number, percent, stated, step_of

LOST = 0.05  # share of roll-outs without their object, above which it counts as lost
OFF = 1.0  # cm, below which a position's error is not called a failure
TIMES_FLOOR = 2.0  # times the floor: an error that the reading or chaos alone does not explain
DISPLACED = (0.8, 1.25)  # of the way that physics moves the object
COLOUR = 10.0  # Delta E over the tokenizer's
OBEYED = 0.9  # share of commands carried out within 45 degrees
RESTLESS = 0.5  # cm that the end-effector moves under zero actions
NOTICED = 0.8  # AUROC
OPTIMISM = 0.2  # share of physics' failures that the world takes for successes


@dataclass(frozen=True)
class Failure:
    """One thing that is wrong, with its number, and what mends it."""

    what: str
    then: str
    command: str


def headline(found: Found) -> str:
    """The headline in one or two sentences."""
    world, calibrated, life = found.setting.world or "This world", found.setting.calibration, found.lifetime("world")
    parts = []
    if calibrated:
        steps, share = found.trust_horizon, percent(1 - calibrated.alpha)
        parts.append(
            f"Trust {world} for {in_time(found, steps)} from a start"
            if steps
            else f"From a start, not even the first step of {world} stays right in {share} of the episodes"
        )
    if life:
        after = (
            f"more than half of its roll-outs outlast the {life.seconds[-1]:g} s that were watched"
            if life.median_s is None
            else f"half of its roll-outs have the object in a wrong place after {life.median_s:g} s"
        )
        parts.append(f"{after[0].upper()}{after[1:]}")
    if not parts:
        return (
            f"How far {world} can be trusted is not known yet: neither its calibration nor its drift has been measured."
        )
    count = len(failures(found))
    parts.append(
        f"{count} finding{'s' * (count > 1)} below call{'s' * (count == 1)} for action"
        if count
        else "No rule found anything to mend in what was measured"
    )
    return ". ".join(parts) + "."


def trusted(found: Found) -> list[str]:
    """What may be trust_horizon, a sentence each."""
    return list(_trusted(found))


def failures(found: Found) -> list[Failure]:
    """What is wrong, and what to do about it."""
    uncertain = (_not_covered, _no_better_than_the_clock, _shifts_unseen)
    rules = (_drifts, _disobeys, _restless, _breaks_laws, *uncertain, _flatters_policies)
    return [failure for rule in rules for failure in rule(found)]


def in_time(found: Found, steps: int) -> str:
    """Steps in words, with seconds where they are known."""
    fps = found.setting.fps
    return f"{steps} step{'s' * (steps != 1)}" + (f" ({steps / fps:g} s)" if fps else "")


def longest(drift: DriftResult) -> tuple[float, dict[str, Drifted]]:
    """The longest horizon that drift was measured at, in seconds, and what was found there by roll-out."""
    key = max(drift.at, key=seconds_of)
    return seconds_of(key), drift.at[key]


def seconds_of(key: str) -> float:
    """5.0 of "5s"."""
    return float(key.removesuffix("s"))


def obedience(found: Found) -> Obedience | None:
    """How the world follows commands, as its frames show, or else as it states; None where it was not measured."""
    sent = found.control.directions if found.control else None
    rows = sent.of.get("world") if sent else None
    return (rows.get("frames") or rows["proprioception"]) if rows else None


def _loss(found: Found) -> DeltaPsnr | None:
    """The PSNR that other actions cost the world."""
    return (found.control.delta_psnr or {}).get("world") if found.control else None


def violation_floor(rows: dict[str, dict[str, Broken]]) -> str | None:
    """The roll-out that breaks nothing, drawn as the world draws; best one that goes its own way a little, like it."""
    return next((name for name in ("perturbed", "physics through the tokenizer", "physics") if name in rows), None)


def _trusted(found: Found) -> Iterator[str]:
    if calibrated := found.setting.calibration:
        share, steps = percent(1 - calibrated.alpha), found.trust_horizon
        how = f"stays below that of a picture one step late ({calibrated.tolerance:.3f}) in {share} of the episodes"
        yield (
            f"Horizon: for {in_time(found, steps)} from a start the error {how}, calibrated on "
            f"{calibrated.measured_on}."
            if steps
            else f"Horizon: none. For no step from a start is it known that the error {how}."
        )
        yield (
            f"Bound: the error stays below {calibrated.factor:.2f} times the stated uncertainty at every step, in "
            f"{share} of the episodes like those of the calibration."
        )
    if life := found.lifetime("world"):
        floor = found.lifetime("perturbed")
        beside = f" Physics whose start is perturbed by 2 mm: {_median_life(floor)}." if floor else ""
        yield (
            f"Time to failure of the object's position: {_median_life(life)}; {life.failed} of "
            f"{life.episodes} roll-outs failed.{beside}"
        )
    lost, obeyed = _loss(found), obedience(found)
    if lost and (lost.random["low"] or 0) > 0:
        yield (
            f"Actions: other actions than the true ones cost {stated(lost.random, 1, ' dB')} of PSNR "
            f"(random), {stated(lost.mirrored, 1, ' dB')} (mirrored): the world listens."
        )
    if obeyed and (obeyed.within_45["rate"] or 0) >= OBEYED:
        yield (
            f"Directions: the end-effector goes within 45 degrees of a full command in {stated(obeyed.within_45)} of "
            f"{obeyed.within_45['n']} starts. Measured along the axes that move it, in random directions."
        )
    r = found.policies.agreement["all"]["all"] if found.policies else None
    if r and r["pearson"] is not None and r["low"] is not None and r["high"] is not None and r["low"] > 0:
        yield (
            f"Policies: success in the world follows success in physics, Pearson {r['pearson']:.2f} "
            f"[{r['low']:.2f} to {r['high']:.2f}] over {r['policies']} policies."
        )


# What is wrong.


def _drifts(found: Found) -> Iterator[Failure]:
    """At the longest horizon: the object lost, off, moved too much or too little, or of another colour."""
    if not found.drift:
        return
    seconds, rows = longest(found.drift)
    after, own, tokenizer = f"after {seconds:g} s", rows["world"], rows.get("tokenizer")

    lost, floor = own.lost, tokenizer.lost if tokenizer else None
    if lost["rate"] is not None and lost["rate"] > max(LOST, (floor["rate"] or 0) if floor else 0):
        beside = f"; physics through the tokenizer: {stated(floor)}" if floor else ""
        beside += "; the intervals overlap, more episodes would tell" if floor and lost["low"] <= floor["high"] else ""
        yield Failure(
            f"The object is lost in {stated(lost)} of {lost['n']} roll-outs {after}{beside}.",
            HIDDEN,
            _record(found, "random", "hidden"),
        )

    floors = [rows[name].object_cm["median"] for name in ("perturbed", "tokenizer") if name in rows]
    if floors and own.object_cm["median"] > max(OFF, TIMES_FLOOR * max(floors)):
        yield Failure(
            f"The object is {stated(own.object_cm, 1, ' cm')} off {after} (median), more than "
            f"{TIMES_FLOOR:g} times the larger floor of {max(floors):.1f} cm.",
            "Record more contact: episodes that push the object, well and badly.",
            _record(found, "noisy", "contact"),
        )

    way = own.displacement
    if not DISPLACED[0] <= way["median"] <= DISPLACED[1]:
        less = "less" if way["median"] < 1 else "more"
        yield Failure(
            f"The object moves {less} than in physics: {stated(way, 2)} of the way {after}.",
            "Record pushes of all lengths and speeds.",
            _record(found, "random", "pushes"),
        )

    if tokenizer and own.colour_distance["mean"] > tokenizer.colour_distance["mean"] + COLOUR:
        yield Failure(
            f"The object's colour drifts by Delta E {stated(own.colour_distance)} {after} (tokenizer: "
            f"{stated(tokenizer.colour_distance)}; a lost object counts 100).",
            "Train on longer roll-outs; more recordings of the same kind do not mend this.",
            f"wm-gym train DATA --init {_world(found)} --preset finetune --out NEW-WORLD",
        )


def _disobeys(found: Found) -> Iterator[Failure]:
    obeyed = obedience(found)
    if obeyed and obeyed.within_45["rate"] is not None and obeyed.within_45["rate"] < OBEYED:
        yield Failure(
            f"The end-effector goes within 45 degrees of a command in only {stated(obeyed.within_45)} of "
            f"{obeyed.within_45['n']} starts (chance: {percent(obeyed.chance_within_45)}).",
            "Record random actions: they go in every direction from everywhere.",
            _record(found, "random", "directions"),
        )
    lost = _loss(found)
    if lost and lost.random["low"] is not None and lost.random["low"] <= 0:
        yield Failure(
            f"Random actions cost {stated(lost.random, 1, ' dB')} of PSNR against the true ones: it is not shown "
            "that the world listens.",
            "Record random actions, so that pictures do not foretell them.",
            _record(found, "random", "directions"),
        )


def _restless(found: Found) -> Iterator[Failure]:
    rows = (found.control.no_op if found.control else None) or {}
    moved = {name: one.frames_cm for name, one in rows.items() if one.frames_cm}
    own, floor = moved.get("world"), moved.get("tokenizer") or moved.get("physics")
    if own and floor and own["median"] > max(RESTLESS, TIMES_FLOOR * floor["median"]):
        yield Failure(
            f"Under zero actions the end-effector moves {stated(own, 2, ' cm')} (floor {floor['median']:.2f} cm).",
            "Record episodes that pause: zero actions for many steps.",
            _record(found, "near-miss", "pauses"),
        )


def _breaks_laws(found: Found) -> Iterator[Failure]:
    rows = found.violations.violations if found.violations else {}
    if not (name := violation_floor(rows)):
        return
    broken = {
        kind: (own.episodes, rows[name][kind].episodes)
        for kind, own in rows["world"].items()
        if own.episodes["low"] > rows[name][kind].episodes["high"]
    }
    for kind, (own, floor) in sorted(broken.items(), key=lambda pair: -(pair[1][0]["rate"] or 0)):
        then, policy = REMEDIES.get(kind, ("Record more episodes like these.", "mix"))
        yield Failure(
            f"Violations, {kind}: in {stated(own)} of {own['n']} episodes, above the floor of {stated(floor)}.",
            then,
            _record(found, policy, "hidden" if then == HIDDEN else kind.replace(" ", "-")),
        )


def _not_covered(found: Found) -> Iterator[Failure]:
    known, calibrated = found.uncertainty, found.setting.calibration
    if not known:
        return
    if not calibrated:
        yield Failure(
            "There is no calibration: no error bound and no horizon can be guaranteed.",
            "Calibrate on recordings that the world was not trained on.",
            _calibrate(found),
        )
        return
    share = 1 - calibrated.alpha
    last = max(known.coverage or (), key=step_of, default="")
    if known.coverage and (kept := known.coverage[last])["high"] < share:
        yield Failure(
            f"The bound holds in {stated(kept)} of {kept['n']} episodes up to step {step_of(last)}, guaranteed were "
            f"{percent(share)}.",
            ANEW,
            _calibrate(found),
        )
    trust = known.trust
    if trust and trust.kept is not None and trust.kept < share:
        yield Failure(
            f"The trust horizon held at {percent(trust.kept)} of {trust.moments:,} moments, "
            f"guaranteed were {percent(share)}.",
            ANEW,
            _calibrate(found),
        )


def _no_better_than_the_clock(found: Found) -> Iterator[Failure]:
    if not found.uncertainty:
        return
    last = max(found.uncertainty.ranks, key=step_of)
    ranks = found.uncertainty.ranks[last]
    if ranks.gain_low is not None and ranks.gain_low <= 0:
        yield Failure(
            f"That uncertainty ranks errors better than the step counter is not shown: rho "
            f"{number(ranks.up_to, 2)} against {number(ranks.clock, 2)}, gain [{ranks.gain_low:.2f} to "
            f"{number(ranks.gain_high, 2)}] up to step {step_of(last)}.",
            "Train the uncertainty anew on more episodes.",
            _calibrate(found) + " --refit",
        )


def _shifts_unseen(found: Found) -> Iterator[Failure]:
    if not found.shifts:
        return
    scores = {name: row.score for name, row in found.shifts.visible.items() if not isinstance(row, Blank)}
    scores |= {name: row.auroc for name, row in found.shifts.hidden.items() if not isinstance(row, Blank)}
    for name, score in scores.items():
        if score < NOTICED:
            yield Failure(
                f"A shift of {name} goes unnoticed: AUROC {score:.2f} (chance 0.5, {found.shifts.starts} starts).",
                "Expect no warning there; record episodes under such shifts, and calibrate on them.",
                _record(found, "mix", name) + f' --env-kwargs \'{{"shift": "{name}"}}\'',
            )


def _flatters_policies(found: Found) -> Iterator[Failure]:
    optimism = found.policies.agreement["all"]["optimism"] if found.policies else None
    if optimism is not None and optimism > OPTIMISM:
        yield Failure(
            f"The world takes {percent(optimism)} of the policies' failures in physics for successes.",
            "Record the policies themselves in physics, and finetune on it.",
            _record(found, "agent:AGENT", "policies"),
        )


ANEW = "Calibrate anew, on more episodes like the ones that were measured here."
HIDDEN = "Record episodes in which the arm hides the object and shows it again."
REMEDIES = {
    "disappearance": (HIDDEN, "random"),
    "duplication": (HIDDEN, "random"),
    "change of size": ("Record the object in every place and pose, and partly hidden.", "mix"),
    "teleport": ("Record more contact: fast pushes and slips.", "noisy"),
    "motion without contact": ("Record near misses: the arm passes close by and the object rests.", "near-miss"),
    "interpenetration": ("Record more contact: slow and fast pushes from all sides.", "noisy"),
    "off its kinematics": ("Record random actions: the arm in every pose.", "random"),
}
"""What to record where a law is broken, and by which policy."""


def _median_life(life: Survival) -> str:
    return f"undefined, {life.undefined}" if life.median_s is None else f"median {life.median_s:g} s"


def _world(found: Found) -> str:
    """As a shell takes it, for whoever copies a command: the name is out of a file."""
    return quote(found.setting.world_folder or found.setting.world or "WORLD")


def _record(found: Found, policy: str, name: str) -> str:
    twin = quote(found.setting.twin or "TWIN")
    return f"wm-gym record {twin} --policy {policy} --episodes 500 --out {name}-data"


def _calibrate(found: Found) -> str:
    return f"wm-gym calibrate {_world(found)} DATA"
