"""From which success probability on does a world judge best? From recordings, and from policies in closed loop.

    wm-gym record wm_gym/PushPyBullet-v0 --policy mix --seed 111 --episodes 1000 --out data/push-111
    python benchmarks/studies/threshold.py recordings data/push-111
    python benchmarks/studies/threshold.py closed_loop AGENT ... --seed 1       # set the shipped threshold
    python benchmarks/studies/threshold.py all_24_policies AGENT ...            # had no part in that

Each part is kept in results/threshold_Push-v0.json. Recordings do not act on the world's errors, policies do: what a
threshold is worth is seen on policies that did not set it, 400 matched starts each.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Bar, command, read_results, write_results

NAME = "threshold_Push-v0"
AT = (0.5, 0.9019, 0.9635)  # as trained; from recordings; from policies in closed loop
BARS = {
    NAME: [
        *(Bar(f"recordings judged wrong at {at}", ("at", str(at), "wrong", "rate"), show="{:.1%}") for at in AT[:2]),
        *(
            Bar(f"{part}, {what} at {at}", (part, str(at), what), show="{:.1%}")
            for part in ("closed_loop", "all_24_policies")
            for at in AT[1:]
            for what in ("optimism", "pessimism")
        ),
    ]
}


def of_recordings(dataset: str, world: str) -> dict:
    """Where the world, under the recordings' actions, calls an episode a success that was none, and the reverse."""
    from wm_gym.common.statistics import matched_table, rate
    from wm_gym.data import open_clips
    from wm_gym.engine.shared import load_world
    from wm_gym.evaluation.episodes import Episodes
    from wm_gym.evaluation.trust.calibrate import errors
    from wm_gym.evaluation.trust.threshold import unbiased_threshold

    loaded = load_world(world)
    episodes = Episodes.of(open_clips(dataset), loaded.spec.horizon)
    physics = episodes.clips.success[episodes.rows[:, 1:]].any(1)
    probability = errors(loaded, episodes, progress=True).success
    at = {}
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, AT[1], 0.95, 0.98):
        says = probability > threshold
        table = matched_table(says, physics)
        at[str(threshold)] = {
            "world": float(says.mean()),
            "wrong": rate(says != physics),
            "optimism": table["optimism"],
            "pessimism": table["pessimism"],
        }
    return {
        "recordings": Path(dataset).name,
        "episodes": len(episodes),
        "physics": float(physics.mean()),
        "at": at,
        "threshold_from_recordings": unbiased_threshold(probability, physics),
    }


def of_policies(agents: list[str], world: str, episodes: int, seed: int) -> dict:
    """The same of policies from matched starts, at each threshold; episodes go on at a success."""
    import numpy as np

    from wm_gym.common.statistics import matched_table
    from wm_gym.policies.matched import evaluate_matched

    rows = [
        evaluate_matched(agent, world, None, episodes, seed, baselines=(), terminate_on_success=False)["per_episode"]
        for agent in agents
    ]
    probability, physics = (
        np.concatenate([row[key] for row in rows]) for key in ("world_probability", "physics_success")
    )
    found: dict = {"which": [Path(agent).name for agent in agents]}
    for threshold in AT:
        says = probability > threshold
        table = matched_table(says, physics)
        found[str(threshold)] = {
            "optimism": table["optimism"]["rate"],
            "pessimism": table["pessimism"]["rate"],
            "wrong": float(np.not_equal(says, physics).mean()),
            "world_minus_physics": table["world_minus_physics"]["difference"],
        }
    return found


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("part", choices=["recordings", "closed_loop", "all_24_policies"])
    parser.add_argument("given", nargs="+", help="the recordings' folder, or agents")
    parser.add_argument("--world", default="Push-v0")
    parser.add_argument("--episodes", type=int, default=400, help="of a policy (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="of its starts (default: 0)")
    args = parser.parse_args()
    if args.part == "recordings":
        found = of_recordings(args.given[0], args.world)
    else:
        found = {args.part: of_policies(args.given, args.world, args.episodes, args.seed)}
    write_results(NAME, (read_results(NAME) or {}) | found)


if __name__ == "__main__":
    main()
