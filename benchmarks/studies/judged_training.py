"""What does a judge make of an agent? Success in physics of agents trained by different rewards, nothing else changed.

    wm-gym agent train ppo --env wm_gym/Reach-v0 --timesteps 120000 --out runs/learned
    wm-gym agent train ppo --env wm_gym/Reach-v0 --timesteps 120000 --out runs/text \
        --env-kwargs '{"reward": "text:the gripper is at the green ball"}'
    for agent in learned text; do wm-gym agent evaluate runs/$agent --env wm_gym/ReachPyBullet-v0 --episodes 200 \
        --json runs/$agent.json; done
    python benchmarks/judged_training.py runs/learned.json runs/text.json

The state oracle is the twin itself: the same training with --env wm_gym/ReachPyBullet-v0, in 4 processes of 256 steps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from common import write_results

KEPT = (
    "agent",
    "env",
    "success",
    "world_name",
    "episodes",
    "seed",
    "physics",
    "world",
    "world_minus_physics",
    "optimism",
    "pessimism",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="what wm-gym agent evaluate --json wrote, learned first")
    found = [json.loads(file.read_text()) for file in parser.parse_args().results]
    learned, *others = (each.get("physics", each.get("success"))["rate"] for each in found)
    write_results(
        "judged_training",
        {
            "agents": [{key: each[key] for key in KEPT if key in each} for each in found],
            "share_of_learned": {each["agent"]: rate / learned for each, rate in zip(found[1:], others)},
        },
    )


if __name__ == "__main__":
    main()
