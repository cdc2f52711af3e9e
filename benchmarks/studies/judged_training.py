"""What does a judge make of an agent? Success in physics of agents trained by different rewards, nothing else changed.

    wm-gym agent train ppo --env wm_gym/Reach-v0 --timesteps 120000 --out runs/learned
    wm-gym agent train ppo --env wm_gym/Reach-v0 --timesteps 120000 --out runs/text \
        --env-kwargs '{"reward": "text:the gripper is at the green ball"}'
    for agent in learned text; do wm-gym agent evaluate runs/$agent --env wm_gym/ReachPyBullet-v0 --episodes 200 \
        --json runs/$agent.json; done
    python benchmarks/studies/judged_training.py runs/learned.json runs/text.json

The state oracle is the twin itself: the same training with --env wm_gym/ReachPyBullet-v0, in 4 processes of 256 steps.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Bar, command, write_results

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
BARS = {
    "judged_training": [
        Bar(
            "success in physics of an agent trained by text alone over the learned reward's",
            ("share_of_learned", "reach-text"),
            least=0.8,
            show="{:.1%}",
        ),
        Bar("the same by one goal picture", ("share_of_learned", "reach-goal"), show="{:.1%}"),
        Bar("the same in the twin itself", ("share_of_learned", "reach-oracle"), show="{:.1%}"),
    ]
}


def main() -> None:
    parser = command(__doc__, BARS)
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
