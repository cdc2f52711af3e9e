"""What does it cost to know? Steps of a world beside the same world whose uncertainty computes nothing, in turns.

python benchmarks/uncertainty_cost.py [WORLD] --batch 1 32
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from common import Bar, command, write_results
from timing import alternate, ratio

from wm_gym.core import WorldCore
from wm_gym.engine.shared import load_world
from wm_gym.models import Uncertainty

BARS = {
    "uncertainty_cost_Push-v0": [
        Bar(
            f"time with uncertainty over without, batch {batch}", (f"batch_{batch}", "time_with_over_without", "median")
        )
        for batch in (1, 32)
    ]
}


class Silent(Uncertainty):
    """The error distribution stays what it was."""

    def forward(self, error_distribution, features, latent, before, first):
        return torch.log(error_distribution)


def stepping(world, batch: int):
    """A workload: one step of a batch and a copy of its frames."""
    core = WorldCore(world, batch, max_episode_steps=-1, terminate_on_success=False)
    core.reset(seeds=list(range(batch)))
    actions = np.zeros((batch, core.spec.action_dim), np.float32)

    def work() -> int:
        core.step(actions)
        core.observation()
        return batch

    return work


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("world", nargs="?", default="Push-v0")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each in each round (default: 1)")
    args = parser.parse_args()
    world = load_world(args.world)
    spec = world.spec
    mute = replace(
        world,
        uncertainty=Silent(world.dynamics.feature_dim, spec.latent_shape[0], tuple(spec.latent_shape[1:]), width=1),
    )
    rows = {}
    for batch in args.batch:
        rates = alternate({"with": stepping(world, batch), "without": stepping(mute, batch)}, args.rounds, args.seconds)
        rows[f"batch_{batch}"] = {
            "frames_per_second": {name: round(float(np.median(each)), 1) for name, each in rates.items()},
            "time_with_over_without": ratio(rates, "without", "with"),
        }
    write_results(f"uncertainty_cost_{spec.name}", {"world": spec.name, **rows})


if __name__ == "__main__":
    main()
