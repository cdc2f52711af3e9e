"""Does a world judge policies as its environment does? Many, from matched starts in both, kept one file a policy."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

import numpy as np

from wm_gym.common.files import atomic_file, write_json
from wm_gym.common.page import GREY, axes, legend
from wm_gym.common.records import Blank, Undefined, or_blank
from wm_gym.common.registry import NAMESPACE
from wm_gym.common.statistics import Difference, Mean, Rate, mean, rate
from wm_gym.evaluation.jobs import Job, run_jobs
from wm_gym.evaluation.ranking.agreement import (
    Agreement,
    SplitHalf,
    agreement,
    agreement_of_returns,
    prediction_powered,
    scaled,
    split_half,
)
from wm_gym.evaluation.ranking.gating import Gating, gating
from wm_gym.evaluation.trust.coverage import auroc
from wm_gym.policies.agent import Agent
from wm_gym.policies.catalogue import digest_of_agent
from wm_gym.policies.config import PLANNER
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_matched
from wm_gym.policies.rollouts import run_source, start_seeds
from wm_gym.policies.source import make_source, source_of
from wm_gym.worlds.catalogue import catalogue_folders, find_world
from wm_gym.worlds.spec import WorldSpec
from wm_gym.worlds.world import World, digest_of_world

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS_FILE, PLOT_FILE = "policies.json", "policies.png"
CONTROLS = {"perturbed": "physics, perturbed", "drawn": "physics, drawn by the world"}
NO_CONTROL = {
    "perturbed": "no task has an object",
    "drawn": "every policy sees physics as the world draws it, or sees no picture",
}
SUCCESS, RETURN = "success", "return"


class JudgedPolicy(TypedDict):
    """One policy's success rates, or its mean returns."""

    agent: str
    world_name: str
    world: Rate | Mean
    physics: Rate | Mean
    world_minus_physics: NotRequired[Difference | Mean]


class WorldAgreement(Agreement):
    """`agreement` of a world with physics, beside what physics agrees with itself."""

    physics_split_half: SplitHalf | Blank


class ControlAgreement(Agreement):
    """`agreement` with physics of physics where something is otherwise, over so many policies."""

    policies: int


class Powered(TypedDict):
    """How well rates in physics are known from few starts, over policies."""

    half_width: float
    """The mean of the 95 % intervals'."""
    holds: Rate
    """Of policies whose interval holds the rate of all starts in physics."""


class PredictionPowered(TypedDict):
    """What a physics rate is known by from the first starts in physics, without the world and with it."""

    pairs: int
    physics_alone: Powered
    with_the_world: Powered


@dataclass(frozen=True)
class PoliciesResult:
    """How well worlds judge policies; groups are "all" and each world's name."""

    episodes: int
    seed: int
    policies: list[JudgedPolicy]
    agreement: dict[str, WorldAgreement]
    perturbed: dict[str, ControlAgreement | Blank]
    drawn: dict[str, ControlAgreement | Blank]
    gating: dict[str, Gating | Blank]
    prediction_powered: dict[str, PredictionPowered | Blank]
    by: str = SUCCESS
    """What policies are compared by: "success", or "return" where the world or its environment knows no success."""

    def control(self, name: str) -> dict[str, ControlAgreement | Blank]:
        """The agreement of a control, one of `CONTROLS`, by group."""
        return {"perturbed": self.perturbed, "drawn": self.drawn}[name]


def evaluate_policies(
    agents: Sequence[str | Path],
    out: str | Path,
    episodes: int = 400,
    seed: int = 0,
    *,
    world: str | Path | None = None,
    workers: int | None = None,
    ray: str | None = None,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Measure independently trained policies in worlds and the environments they were learned from: do the two agree?

    Success is compared where both say it, else the return. OUT/policies/<name>.json keeps each one's outcomes,
    OUT/perturbed/<name>.json those in the environment a little off (its object, or else the first action: what chaos
    alone costs), OUT/drawn/<name>.json those in the environment seen as the world draws it (what the drawing alone does
    to policies that were trained on a camera's pictures). What is there is not measured again, so the same call goes on
    after a kill. OUT/policies.png is the scatter plot.

    Args:
        agents: Folders; each is measured in `world`, else in the world that it was trained in, else in the shipped
            world whose twin it was trained in.
        out: The folder OUT.
        episodes: Matched starts a policy.
        seed: Of the starts.
        world: A world's folder, its Hub id, or the name of a shipped one.
        workers: Policies measured at once, one core each (default: one a core). No number depends on it.
        ray: Address of a cluster to measure on instead (`run_jobs`), where agents and worlds must lie under the same
            paths.
        progress: Show a bar.
        **options: Of `evaluate_matched`.

    Returns:
        `PoliciesResult` as JSON, which OUT/policies.json holds too.

    Raises:
        ValueError: For two agents of one name or with the same weights, where an agent's world is not known, and for
            returns of several worlds.
    """
    loaded, out = [load_agent(agent) for agent in agents], Path(out)
    _check_distinct([_folder_of(agent) for agent in loaded])
    perturbed = "nudged" if (out / "nudged").is_dir() else "perturbed"  # the former: begun by an earlier version
    jobs = [
        policy_job(agent, str(world or world_of(agent)), out / of, episodes, seed, options, function)
        for of, function in (("policies", measure), (perturbed, measure_perturbed), ("drawn", measure_drawn))
        for agent in loaded
    ]
    found = run_jobs(jobs, workers, ray, progress)
    rows, *beside = (found[first : first + len(loaded)] for first in range(0, len(found), len(loaded)))
    result = _policies_result(*_compared(rows, beside), episodes, seed)
    results = asdict(result)
    write_json(out / RESULTS_FILE, results)
    policy_plot(result.policies, out / PLOT_FILE)
    return results


def _compared(rows: list[dict[str, Any]], beside: list[list[dict[str, Any]]]) -> tuple[list[dict[str, Any]], str]:
    """The policies' outcomes with those of `CONTROLS` beside them, and what they are compared by."""
    by = SUCCESS if all("table" in row for row in rows) else RETURN
    key = "success" if by == SUCCESS else "reward"
    found = []
    for row, *controls in zip(rows, *beside):
        side = row if by == SUCCESS else row | row["returns"]
        found.append(side | {name: control.get(key) for name, control in zip(CONTROLS, controls)})
    return found, by


def _policies_result(rows: list[dict[str, Any]], by: str, episodes: int, seed: int) -> PoliciesResult:
    """What the outcomes of policies say of their worlds."""
    worlds = sorted({row["world_name"] for row in rows})
    if by == RETURN and len(worlds) > 1:
        raise ValueError(f"returns in {worlds} cannot be compared with each other; judge the policies of one at a time")
    groups = {name: [row for row in rows if name in ("all", row["world_name"])] for name in ["all", *worlds]}
    return PoliciesResult(
        episodes=episodes,
        seed=seed,
        policies=[cast(JudgedPolicy, {name: row[name] for name in JudgedPolicy.__annotations__}) for row in rows],
        agreement={name: _agreement(some, by) for name, some in groups.items()},
        perturbed={name: or_blank(partial(_control, some, "perturbed", by)) for name, some in groups.items()},
        drawn={name: or_blank(partial(_control, some, "drawn", by)) for name, some in groups.items()},
        gating={name: or_blank(partial(_gating, some, by)) for name, some in groups.items()},
        prediction_powered={name: or_blank(partial(_prediction_powered, some, by)) for name, some in groups.items()},
        by=by,
    )


def world_of(agent: Agent) -> str | Path:
    """The world that an agent is judged in: its own, else the shipped one whose twin it was trained in."""
    if agent.world is not None:
        return agent.world
    for name, folder in catalogue_folders().items():
        if WorldSpec.load(folder).twin == agent.env_id:
            return f"{NAMESPACE}/{name}"
    raise ValueError(f"{agent.folder} was trained in {agent.env_id}, the twin of no shipped world; pass --world")


def policy_plot(policies: Sequence[JudgedPolicy], path: Path) -> None:
    """Write `policy_figure` as a PNG."""
    with atomic_file(path) as beside:
        policy_figure(policies).savefig(beside, dpi=170)


def policy_figure(policies: Sequence[JudgedPolicy]) -> Figure:
    """A dot a policy, success or return in its world over that outside, with 95 % intervals; a matplotlib figure."""
    figure, (axis,) = axes(1, (4.8, 4.6))
    names, drawn, by_success = sorted({one["world_name"] for one in policies}), [], "rate" in policies[0]["world"]
    for name in names:
        some = [policy for policy in policies if policy["world_name"] == name]
        (x, x_error), (y, y_error) = (_middles([policy[side] for policy in some]) for side in ("physics", "world"))
        drawn.append(axis.errorbar(x, y, xerr=x_error, yerr=y_error, fmt="o", markersize=5, linewidth=1))
    if by_success:
        axis.set(xlim=(-3, 103), ylim=(-3, 103), xlabel="success in physics, %", ylabel="success in the world, %")
    else:
        axis.set(xlabel="return in the environment", ylabel="return in the world")
    ends = (
        (0, 100)
        if by_success
        else (min(axis.get_xlim()[0], axis.get_ylim()[0]), max(axis.get_xlim()[1], axis.get_ylim()[1]))
    )
    axis.plot(ends, ends, color=GREY, linewidth=1, zorder=0)
    axis.set_aspect("equal")
    legend(axis, drawn, names, frameon=False)
    return figure


def summary(results: dict[str, Any]) -> str:
    """The results in a few lines for a terminal."""
    by = ", by return" if results.get("by") == RETURN else ""
    lines = [f"{len(results['policies'])} policies, {results['episodes']} matched starts each{by}"]
    for name, found in results["agreement"].items():
        r, inside = found["all"], found["within_band"]
        lines.append(
            f"  {name}: {r['policies']} policies, Pearson {_number(r['pearson'])} [{_number(r['low'])}, "
            f"{_number(r['high'])}], {inside['policies']} of them at 20-80 %: {_number(inside['pearson'])}; "
            f"MMRV {found['mmrv']:.3f} (a perfect world {found['perfect_world']['mmrv']:.3f}); optimism "
            f"{_number(found['optimism'])}, pessimism {_number(found['pessimism'])}"
        )
        lines += [f"    undefined: {part['undefined']}" for part in (r, inside) if part["undefined"]]
        for control, what in CONTROLS.items():
            if "undefined" not in (floor := results[control][name]):
                lines.append(
                    f"    {what}: {floor['policies']} policies, Pearson {_number(floor['all']['pearson'])}, "
                    f"MMRV {floor['mmrv']:.3f}, optimism {_number(floor['optimism'])}, pessimism "
                    f"{_number(floor['pessimism'])}"
                )
        gate = results["gating"][name]
        if "undefined" in gate:
            continue
        lines.append(
            f"    the {gate['keep']:.0%} least uncertain: "
            + "; ".join(
                f"{what} {_number(gate['all'][what])} -> {_number(gate['kept'][what])}"
                + (f" (gain {gain['gain']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}])" if gain else "")
                for what, gain in gate["gain"].items()
            )
        )
    return "\n".join(lines)


def measure(
    agent: str, world: str, episodes: int, seed: int, options: dict[str, Any], policy_weights: str, world_weights: str
) -> dict[str, Any]:
    """`evaluate_matched` of an agent with these digests of weights, the twin in this process; a job of `run_jobs`.

    The world is read anew: an engine that this process has compiled for another number of threads is not used.
    Raises ValueError where the weights found here are others.
    """
    _check_weights(agent, world, policy_weights, world_weights)
    return evaluate_matched(
        agent,
        World.from_pretrained(find_world(world)),
        None,
        episodes,
        seed,
        baselines=(),
        workers=0,
        progress=False,
        **options,
    )


def measure_perturbed(
    agent: str, world: str, episodes: int, seed: int, options: dict[str, Any], policy_weights: str, world_weights: str
) -> dict[str, Any]:
    """Outcomes of the same starts in the environment a little off (`run_source`); None where the task has no object."""
    _check_weights(agent, world, policy_weights, world_weights)
    return _outside(load_agent(agent), world, episodes, seed, options, perturbed=True)


def measure_drawn(
    agent: str, world: str, episodes: int, seed: int, options: dict[str, Any], policy_weights: str, world_weights: str
) -> dict[str, Any]:
    """Outcomes of the same starts in the environment as the world draws it; None where it is seen so anyway."""
    _check_weights(agent, world, policy_weights, world_weights)
    policy = load_agent(agent)
    if policy.config.get("learned") or policy.algo == PLANNER:
        return {"success": None, "undefined": f"{policy.name} sees physics so already"}
    return _outside(policy, world, episodes, seed, options, drawn=True)


def _outside(
    policy: Agent,
    world: str,
    episodes: int,
    seed: int,
    options: dict[str, Any],
    perturbed: bool = False,
    drawn: bool = False,
) -> dict[str, Any]:
    """Outcomes of matched starts in the environment, where something is otherwise."""
    judged = World.from_pretrained(find_world(world))
    where, horizon = source_of(judged.spec)
    try:
        env = make_source(where, judged, policy, horizon, frames=False, drawn=drawn or None)
        try:
            seeds, sure = start_seeds(episodes, seed), options.get("deterministic", True)
            outcomes, _ = run_source(policy, env, seeds, sure, frames=False, perturbed=perturbed)
        finally:
            env.close()
    except Undefined as reason:
        return {"success": None, "undefined": str(reason)}
    known = any(o.success is not None for o in outcomes)
    return {"success": [bool(o.success) for o in outcomes] if known else None, "reward": [o.reward for o in outcomes]}


def _folder_of(agent: Agent) -> Path:
    """Where an agent lies."""
    if agent.folder is None:
        raise ValueError(f"{agent.name} lies in no folder; save it first")
    return agent.folder


def _check_weights(agent: str, world: str, policy_weights: str, world_weights: str) -> None:
    for what, here, asked in (
        (agent, digest_of_agent(agent), policy_weights),
        (world, digest_of_world(world), world_weights),
    ):
        if here != asked:
            raise ValueError(f"the weights of {what} on {platform.node()} are {here}, not {asked}; copy them there")


def policy_job(
    agent: Agent, world: str, out: Path, episodes: int, seed: int, options: dict[str, Any], function: Callable
) -> Job:
    """A job that measures an agent (`measure`, `measure_perturbed`, `measure_drawn`), kept in OUT/<name>.json."""
    world = str(Path(world).resolve()) if Path(world).is_dir() else world  # a worker's working folder is another
    return Job(
        out / f"{agent.name}.json",
        f"{__name__}:{function.__name__}",
        {
            "agent": str(_folder_of(agent).resolve()),
            "world": world,
            "episodes": episodes,
            "seed": seed,
            "options": options,
            "policy_weights": digest_of_agent(_folder_of(agent)),
            "world_weights": digest_of_world(world),
        },
    )


def _agreement(rows: list[dict[str, Any]], by: str = SUCCESS) -> WorldAgreement:
    world, physics = (_outcomes(rows, side, by) for side in ("world", "physics"))
    halves: SplitHalf = {"mmrv": None, "pearson": None, "undefined": "one episode a policy"}
    if physics.shape[1] > 1:
        halves = split_half(physics if by == SUCCESS else scaled(world, physics)[1])
    found = agreement(world, physics) if by == SUCCESS else agreement_of_returns(world, physics)
    return {**found, "physics_split_half": halves}


def _control(rows: list[dict[str, Any]], control: str, by: str = SUCCESS) -> ControlAgreement:
    """`agreement` with physics of physics where something is otherwise, over the policies that it can be asked of."""
    rows = [row for row in rows if row[control]]
    if not rows:
        raise Undefined(NO_CONTROL[control])
    compare = agreement if by == SUCCESS else agreement_of_returns
    found = compare(np.array([row[control] for row in rows]), _outcomes(rows, "physics", by))
    return {"policies": len(rows), **found}


def _gating(rows: list[dict[str, Any]], by: str = SUCCESS) -> Gating:
    """`gating`, and the AUROC by which uncertainty, or length alone, tells the world's false successes."""
    if by == RETURN:
        raise Undefined("by return no outcome is right or wrong")
    if not all("world_uncertainty" in row["per_episode"] for row in rows):
        raise Undefined("a world that was trained without pictures states no uncertainty")
    uncertainty, steps = (
        np.array([row["per_episode"][f"world_{key}"] for row in rows], float) for key in ("uncertainty", "steps")
    )
    world, physics = _outcomes(rows, "world", by), _outcomes(rows, "physics", by)
    right, false = world & physics, world & ~physics
    false_success = {
        name: auroc(values[right], values[false]) if right.any() and false.any() else None
        for name, values in (("uncertainty", uncertainty), ("steps", steps))
    }
    return {**gating(world, physics, uncertainty), "false_success": false_success}


def _prediction_powered(rows: list[dict[str, Any]], by: str = SUCCESS) -> PredictionPowered:
    """What a physics rate is known by from the first eighth of the starts in physics, without the world and with it.

    Mean half-widths of the 95 % intervals, and in how many policies they hold the rate of all starts in physics.
    """
    world, physics = _outcomes(rows, "world", by), _outcomes(rows, "physics", by)
    pairs = world.shape[1] // 8
    if pairs < 2:
        raise Undefined(f"{world.shape[1]} episodes a policy; an eighth of them must be at least 2")
    alone: list[Any] = [rate(p[:pairs]) if by == SUCCESS else mean(p[:pairs]) for p in physics]
    powered = [prediction_powered(w[pairs:], w[:pairs], p[:pairs], tuned=True) for w, p in zip(world, physics)]

    def held(intervals: Sequence[Mapping[str, Any]]) -> Powered:
        return {
            "half_width": float(np.mean([(each["high"] - each["low"]) / 2 for each in intervals])),
            "holds": rate([each["low"] <= p.mean() <= each["high"] for each, p in zip(intervals, physics)]),
        }

    return {"pairs": pairs, "physics_alone": held(alone), "with_the_world": held(powered)}


def _outcomes(rows: list[dict[str, Any]], side: str, by: str = SUCCESS) -> np.ndarray:
    """Successes bool [k, n], or returns float64 [k, n]."""
    if by == SUCCESS:
        return np.array([row["per_episode"][f"{side}_success"] for row in rows], bool)
    return np.array([row["per_episode"][f"{side}_reward"] for row in rows], float)


def _check_distinct(folders: list[Path]) -> None:
    seen: dict[Any, Path] = {}
    for folder in folders:
        for key, what in ((folder.name, "the same name"), (digest_of_agent(folder), "the same weights")):
            if key in seen:
                raise ValueError(f"{folder} and {seen[key]} have {what}; a unit is an independently trained policy")
            seen[key] = folder


def _middles(stats: Sequence[Rate | Mean]) -> tuple[np.ndarray, np.ndarray]:
    """Rates in % or means, and how far their intervals reach below and above [2, k]; nan where there is none."""
    rows = [
        (100 * np.array([one["rate"], one["low"], one["high"]], float))
        if "rate" in one
        else np.array([one["mean"], one["low"], one["high"]], float)
        for one in stats
    ]
    middle, low, high = np.array(rows).T
    return middle, np.stack([middle - low, high - middle])


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
