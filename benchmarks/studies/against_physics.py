"""Is training in the world worth it? Agents trained inside it against agents trained in PyBullet from the same pixels.

    python benchmarks/studies/against_physics.py WORLD --inside AGENT... --physics AGENT... \\
        --recorded-steps N --recording-seconds S --world-seconds S

Both were trained with the recipes' physics checks (AGENT.training/checks.csv): success in physics of the deterministic
policy, against physics steps used and against wall-clock. An agent inside starts with the recording's steps and the
time that recording and world training took, and pays for its checks; one in physics pays for its training steps only.
The last policies are measured from the same 400 starts, and how far world and physics agree over them. Writes
results/against_physics_NAME.json and .png; killed, it goes on where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from common import RESULTS, Bar, command, write_results

from wm_gym.common.page import PHYSICS, WORLD, axes
from wm_gym.engine.shared import load_world
from wm_gym.evaluation.ranking.policies import evaluate_policies
from wm_gym.policies.loaders import load_agent
from wm_gym.rl.callbacks import CURVE_FILE, read_curve
from wm_gym.rl.physics_check import CHECKS_FILE, read_checks

SIDES = {"inside": "the world", "physics": "physics"}


def middle(found: dict, side: str) -> float:
    """The median seed's success in physics."""
    return median(agent["physics"]["rate"] for agent in found[side])


BARS = {
    "against_physics_Push-v0": [
        *(
            Bar(f"seeds, trained in {where}", lambda found, side=side: len(found[side]), least=3)
            for side, where in SIDES.items()
        ),
        *(
            Bar(
                f"success in physics, trained in {where}, median seed",
                lambda found, side=side: middle(found, side),
                show="{:.1%}",
            )
            for side, where in SIDES.items()
        ),
        *(
            Bar(
                f"{what} until then, trained in {where}",
                lambda found, side=side, key=key: median(seed["history"][key][-1] for seed in found[side]),
                show="{:,.0f}",
            )
            for side, where in SIDES.items()
            for key, what in (("physics_steps", "physics steps"), ("seconds", "seconds"))
        ),
    ]
}


def history(agent: str, inside: bool, steps_before: int, seconds_before: float) -> dict[str, list[float]]:
    """Of each check: physics steps used, seconds, success in physics."""
    run = Path(agent).with_name(Path(agent).name + ".training")
    checks, curve = read_checks(run / CHECKS_FILE), read_curve(run / CURVE_FILE)
    steps, times = zip(*((row["steps"], row["seconds"]) for row in curve))
    seconds = np.interp([c["steps"] for c in checks], steps, times)
    return {
        "physics_steps": [steps_before + c["physics_steps"] if inside else c["steps"] for c in checks],
        "seconds": [round(seconds_before + s, 1) for s in seconds],
        "success": [c["physics"] for c in checks],
    }


def draw(groups: dict[str, list[dict]], path: Path) -> None:
    """One line an agent, success against physics steps (left) and minutes (right)."""
    figure, pair = axes(2, (9.2, 3.6))
    for name, colour in (("inside", WORLD), ("physics", PHYSICS)):
        for i, agent in enumerate(groups[name]):
            past, label = agent["history"], {"inside": "trained in the world", "physics": "trained in physics"}[name]
            for axis, key, scale in ((pair[0], "physics_steps", 1000), (pair[1], "seconds", 60)):
                axis.plot(
                    np.array(past[key]) / scale,
                    100 * np.array(past["success"]),
                    "o-",
                    color=colour,
                    markersize=3,
                    linewidth=1.4,
                    alpha=0.8,
                    label=None if i else label,
                )
    pair[0].set(xlabel="physics steps, thousands (recording included)", ylabel="success in physics, %")
    pair[1].set(xlabel="minutes (recording and world training included)")
    for axis in pair:
        axis.set(ylim=(-2, 103), xlim=(0, None))
    pair[0].legend(frameon=False)
    figure.savefig(path, dpi=170)


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("world")
    parser.add_argument("--inside", nargs="+", required=True)
    parser.add_argument("--physics", nargs="+", required=True)
    parser.add_argument("--recorded-steps", type=int, required=True)
    parser.add_argument("--recording-seconds", type=float, required=True)
    parser.add_argument(
        "--world-seconds",
        type=float,
        required=True,
        help="training of the world, and of the agents whose recordings it was finetuned on",
    )
    parser.add_argument("--out", default="runs/against_physics", help="keeps each agent's outcomes; goes on from them")
    parser.add_argument("--episodes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1000, help="of the starts; training used others (default: 1000)")
    args = parser.parse_args()
    measured = evaluate_policies([*args.inside, *args.physics], args.out, args.episodes, args.seed, world=args.world)
    rows = iter(measured["policies"])
    groups: dict[str, list[dict]] = {}
    for name, folders in (("inside", args.inside), ("physics", args.physics)):
        before = (args.recorded_steps, args.recording_seconds + args.world_seconds) if name == "inside" else (0, 0.0)
        groups[name] = [
            {
                "seed": load_agent(folder).config["seed"],
                "physics": row["physics"],
                "world": row["world"],
                "history": history(folder, name == "inside", *before),
            }
            for folder, row in zip(folders, rows)
        ]
    name = load_world(args.world).spec.name
    write_results(
        f"against_physics_{name}",
        {
            "episodes": args.episodes,
            "recorded_steps": args.recorded_steps,
            "recording_seconds": args.recording_seconds,
            "world_seconds": args.world_seconds,
            **groups,
            "agreement": measured["agreement"]["all"],
        },
    )
    draw(groups, RESULTS / f"against_physics_{name}.png")


if __name__ == "__main__":
    main()
