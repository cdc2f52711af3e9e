"""What are imagined demonstrations worth? Cloning 10 real ones of Push with and without them, asked in physics.

    for s in 0 1 2 3 4; do
        wm-gym record wm_gym/PushPyBullet-v0 --episodes 10 --policy expert --seed 30$s --out data/demo-$s; done
    wm-gym record wm_gym/PushPyBullet-v0 --episodes 1000 --seed 100 --out data/push-mix
    wm-gym idm train data/push-mix --world Push-v0 --out data/idm
    python benchmarks/studies/synthetic_demonstrations.py data/demo-? --idm data/idm --out runs/synthetic

Each seed has demonstrations, imagined episodes and cloning of its own. "unfiltered": every imagined episode, with the
actions that were read off it; "judged": those that the world's judge calls a success; "certain": of these, without
those of much uncertainty; "accepted": of these, without those that the inverse dynamics refuse; "taken": the same as
"accepted" with the actions that the policy took. 100 starts in physics, the same for all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Bar, command, write_results

WORLD, TWIN = "Push-v0", "wm_gym/PushPyBullet-v0"
ARMS = ("real", "unfiltered", "judged", "certain", "accepted", "taken")
BARS = {
    "synthetic_demonstrations": [
        Bar(
            "success over 10 real demonstrations', lower end",
            ("arms", "accepted", "more_than_real", "low"),
            least=0.15,
            show="{:.1%}",
        ),
        Bar("seeds", lambda found: len(found["arms"]["accepted"]["seeds"]), least=5),
        *(
            Bar(f"success in physics, {arm}", ("arms", arm, "mean"), show="{:.1%}")
            for arm in ("real", "unfiltered", "accepted")
        ),
    ]
}


def one(seed: int, demos: Path, args: argparse.Namespace) -> dict:
    """One seed's imagined episodes, and a clone for each way to choose among them."""
    import numpy as np
    import torch

    from wm_gym.collect.imagine import Filter, imagine_episodes, write_imagined
    from wm_gym.engine.shared import load_world
    from wm_gym.inverse.labeller import VideoLabeller
    from wm_gym.policies.cloning import clone_agent
    from wm_gym.policies.loaders import load_agent
    from wm_gym.policies.rollouts import run_source, start_seeds
    from wm_gym.policies.source import make_source

    torch.set_num_threads(1)
    file = args.out / f"{seed}.json"
    result = json.loads(file.read_text()) if file.is_file() else {"seed": seed, "kept": {}, "success": {}}
    world, labeller = load_world(WORLD), VideoLabeller.load(args.idm)
    labeller.world = None if args.blind else labeller.world
    limit = world.calibration.limit
    unlimited = VideoLabeller(
        labeller.network, labeller.about | {"limits": dict.fromkeys(labeller.about["limits"], np.inf)}, None
    )
    filters = {
        "unfiltered": Filter(False, np.inf, unlimited),
        "judged": Filter(True, np.inf, unlimited),
        "certain": Filter(True, limit, unlimited),
        "accepted": Filter(True, limit, labeller),
        "taken": Filter(True, limit, labeller),
    }
    imagined, out = None, {}
    for arm in args.arms:
        if arm in result["success"]:
            continue
        data, agent = args.out / f"{arm}-{seed}", args.out / f"clone-{arm}-{seed}"
        if arm != "real":
            imagined = imagined or list(
                imagine_episodes(world, args.policy, args.imagined, 1000 + seed, progress=False)
            )
            shutil.rmtree(data, ignore_errors=True)
            result["kept"][arm], why = write_imagined(imagined, world, data, filters[arm])
            if arm == "taken":
                shutil.rmtree(data)
                write_imagined([each for i, each in enumerate(imagined) if i not in why], world, data, Filter(False))
            elif same := [other for other, left in out.items() if left == why.keys()]:  # the same clone comes of it
                result["success"][arm] = result["success"][same[0]]
                continue
            else:
                out[arm] = why.keys()
        clone_agent(
            [demos] if arm == "real" else [demos, data],
            f"wm_gym/{WORLD}",
            agent,
            args.updates,
            seed=seed,
            progress=False,
            overwrite=True,
            device="cpu",
        )
        policy = load_agent(agent)
        twin = make_source(TWIN, WORLD, policy)
        outcomes, _ = run_source(policy, twin, start_seeds(args.episodes, 77))
        twin.close()
        result["success"][arm] = [bool(outcome.success) for outcome in outcomes]
        file.write_text(json.dumps(result))
        print(seed, arm, np.mean(result["success"][arm]), result["kept"].get(arm), flush=True)
    return result


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("demos", nargs="+", type=Path, help="a recording of 10 episodes for each seed")
    parser.add_argument("--idm", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--policy", default="ppo-Push-v0")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--imagined", type=int, default=300)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument(
        "--blind", action="store_true", help="do not ask the world whether an imagined episode surprises it"
    )
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(one, seed, demos, args) for seed, demos in enumerate(args.demos)]
        results = [each.result() for each in waiting]
    import numpy as np

    from wm_gym.common.statistics import mean

    found = {}
    for arm in ARMS:  # those of earlier calls, too
        having = [each for each in results if arm in each["success"]]
        share = np.array([np.mean(each["success"][arm]) for each in having])
        if len(share):
            real = np.array([np.mean(each["success"]["real"]) for each in having])
            found[arm] = {
                "seeds": [each["seed"] for each in having],
                "success": share.tolist(),
                **mean(share),
                "more_than_real": mean(share - real),
            }
    write_results(
        "synthetic_demonstrations",
        {
            "world": WORLD,
            "policy": args.policy,
            "imagined": args.imagined,
            "updates": args.updates,
            "starts": args.episodes,
            "kept": [each["kept"] for each in results],
            "arms": found,
        },
    )


if __name__ == "__main__":
    main()
