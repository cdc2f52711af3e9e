"""A world of latent actions, from video alone: what do its actions tell, and does it obey real ones mapped to them?

    wm-gym record wm_gym/PushPyBullet-v0 --episodes 1000 --seed 100 --out data/push-mix
    wm-gym record wm_gym/PushPyBullet-v0 --episodes 200 --seed 900 --out data/push-held
    python benchmarks/studies/latent_actions.py data/push-mix data/push-held --out runs/latent

The latent action model and the world see the video of push-mix and nothing else. "own": the held-out video's own latent
actions; "mapped": its real actions through a linear map fitted on a share of push-mix's labels; "acts": a world of the
same sizes that was trained with the real actions. Beside each the gain over another episode's actions, dB of PSNR.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Bar, command, write_results
from labels import SIZES

SHARES = (0.01, 0.1, 1.0)
STEPS = (1, 4, 10)
BARS = {
    "latent_actions": [
        *(
            Bar(f"probe's R2, {n} labelled episodes", ("gain", f"mapped, {n} labelled episodes", "probe_r2"))
            for n in (9, 90, 900)
        ),
        *(
            Bar(
                f"gain over another episode's actions after 4 steps, {name}, dB",
                ("gain", name, "at_4", "gain", "mean"),
                show="{:.1f}",
            )
            for name in ("own", "mapped, 9 labelled episodes", "mapped, 900 labelled episodes")
        ),
    ]
}


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("dataset")
    parser.add_argument("held")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=1500, help="of the dynamics (default: 1500)")
    parser.add_argument("--latent-updates", type=int, default=1500, help="of the latent action model (default: 1500)")
    parser.add_argument("--tokenizer-updates", type=int, default=1200, help="(default: 1200)")
    parser.add_argument("--without-acts", action="store_true", help="leave out the world with real actions")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    import numpy as np

    from wm_gym.data import open_clips
    from wm_gym.evaluation.episodes import Episodes
    from wm_gym.inverse.fit import split_labels
    from wm_gym.inverse.labeller import VideoLabeller, fit_real_actions, label_dataset, train_labeller
    from wm_gym.training import train
    from wm_gym.worlds.world import World

    clips, held = open_clips(args.dataset), open_clips(args.held)
    if not (args.out / "model").is_dir():
        train_labeller(clips, args.out / "model", "latent", labels=0, updates=args.latent_updates, window=5)
    model = VideoLabeller.load(args.out / "model")
    if not (args.out / "labelled").is_dir():
        label_dataset(args.dataset, model, args.out / "labelled")
    sizes = SIZES | {"dynamics_updates": args.updates, "tokenizer_updates": args.tokenizer_updates}
    ways = {"latent": args.out / "labelled"} | ({} if args.without_acts else {"acts": args.dataset})
    for name, dataset in ways.items():
        if not (args.out / name / "spec.yaml").is_file():
            train(dataset, args.out / name, overrides=sizes, cpu=True)
    asked = Episodes.of(held, max(STEPS), every=25)
    own = np.stack([model.read(frames) for frames in asked.frames])
    latent = World.from_pretrained(args.out / "latent")
    result = {"own": gain(latent, asked, own.clip(-1, 1))}
    maps = {}
    for share in SHARES:
        episodes, _ = split_labels(clips, share)
        maps[share] = np.array(fit_real_actions(model, clips, episodes)["matrix"], np.float32)
        given = np.concatenate([asked.action, np.ones((*asked.action.shape[:2], 1), np.float32)], axis=-1)
        result[f"mapped, {len(episodes)} labelled episodes"] = gain(
            latent, asked, (given @ maps[share]).clip(-1, 1)
        ) | {"probe_r2": probe(model, clips, episodes, asked, own)}
    if not args.without_acts:
        result["acts"] = gain(World.from_pretrained(args.out / "acts"), asked, asked.action)
    write_results(
        "latent_actions",
        {
            "world": "Push",
            "updates": args.updates,
            "latent_updates": args.latent_updates,
            "tokenizer_updates": args.tokenizer_updates,
            "pieces": len(asked),
            "gain": result,
        },
    )
    (args.out / "result.json").write_text(json.dumps(result, indent=1))


def probe(model, clips, episodes, asked, own) -> float:
    """R^2 of real actions read linearly off latent ones, the lower of both dimensions; fitted on some episodes."""
    import numpy as np

    rows = clips.transitions(episodes)
    read = np.concatenate(
        [model.read(np.asarray(clips.frames[clips.episode_offset[e] : clips.episode_offset[e + 1]])) for e in episodes]
    )
    weights = np.linalg.lstsq(np.c_[read, np.ones(len(read))], clips.action[rows], rcond=None)[0]
    true = asked.action.reshape(-1, asked.action.shape[-1])
    found = np.c_[own.reshape(-1, own.shape[-1]), np.ones(len(true))] @ weights
    return float((1 - ((found - true) ** 2).mean(0) / true.var(0)).min())


def gain(world, asked, actions) -> dict:
    """PSNR at some steps under actions [E, n, Z], and its gain over another episode's (`mean` over episodes)."""
    from wm_gym.common.metrics import psnr
    from wm_gym.common.statistics import mean
    from wm_gym.evaluation.control_worlds import learned
    from wm_gym.evaluation.episodes import Episodes

    some = Episodes(asked.clips, asked.rows, actions)
    if not world.spec.proprioception_dim:
        from dataclasses import replace

        import numpy as np

        clips = replace(asked.clips, proprioception=np.zeros((len(asked.clips.frames), 0), np.float32))
        some = Episodes(clips, asked.rows, actions)
    rollout = learned(world)
    truth = asked.frames[:, 1:]
    own = psnr(rollout(some)["frame"], truth)
    other = psnr(rollout(Episodes(some.clips, some.rows, actions[asked.others()]))["frame"], truth)
    return {
        f"at_{t}": {"psnr": mean(asked.means(own[:, t - 1])), "gain": mean(asked.means((own - other)[:, t - 1]))}
        for t in STEPS
    }


if __name__ == "__main__":
    main()
