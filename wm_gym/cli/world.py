"""Which commands make a world, from recordings to a compiled step?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from wm_gym.cli.command import ENV_ID_HELP, WORLD_HELP, Command, flag, part, positional
from wm_gym.collect.options import RecordOptions
from wm_gym.collect.policies import EXAMPLE, POLICIES
from wm_gym.common.options import Count
from wm_gym.engine import BACKENDS, PRECISIONS
from wm_gym.rl.options import ImproveOptions
from wm_gym.training.options import TrainOptions
from wm_gym.training.presets import PRESETS


class Record(Command):
    """Record an environment's episodes as video and actions (LeRobotDataset v3.0)."""

    name = "record"
    example = "wm-gym record wm_gym/ReachPyBullet-v0 --episodes 100 --policy mix --out reach-data"

    env_id: Annotated[str, "ENV_ID"] = positional(help=ENV_ID_HELP)
    episodes: Count | None = None
    "How many the dataset holds at the end (with what an interrupted run left there); or give --steps."
    policy: str = flag(
        default="mix",
        help=f"who acts: {', '.join(POLICIES)}, agent:FOLDER, a Stable-Baselines3 FILE.zip (with --trust), module:name "
        f"of a function or class, or several with their shares of the episodes: {EXAMPLE}; mix takes of the scripts "
        "what the environment has: all for wm-gym's physics twins, random alone for any other (default: mix)",
    )
    out: Annotated[str, "DIR"]
    "The LeRobotDataset v3.0 folder to write."
    options: RecordOptions = part("progress", "shard_frames")

    def run(self) -> None:
        from wm_gym.collect.record import record

        out = record(self.env_id, self.episodes, self.policy, out=self.out, options=self.options)
        print(f"recorded: {out}\nnext: wm-gym train {out} --out WORLD")


class CheckWorld(Command):
    """Say whether a world follows its actions and is of use, on held-out episodes."""

    name = "check"
    example = "wm-gym check my-world reach-data"

    world: Annotated[str, "WORLD"] = positional(help=WORLD_HELP)
    dataset: Annotated[Sequence[str], "DATASET"] = positional()
    "What it was trained on, or other recordings of its source; every 20th episode is taken, which training holds out."
    camera: Annotated[str, "KEY"] | None = None
    "Which camera (default: the world's)."
    seed: int = 0
    "Draws the segments."

    def run(self) -> None:
        from wm_gym.data.clips import join_clips, open_clips
        from wm_gym.engine.shared import load_world
        from wm_gym.training.check import NOTHING, check_world

        world = load_world(self.world)
        size, camera = world.spec.frame_size, self.camera or world.spec.camera
        found = check_world(world, join_clips([open_clips(one, camera, size) for one in self.dataset]), self.seed)
        print(found)
        if found.verdict == NOTHING:
            raise SystemExit(1)


class Train(Command):
    """Train a world on a dataset."""

    name = "train"
    example = "wm-gym train reach-data --out my-world --preset small"

    dataset: Annotated[Sequence[str], "DATASET"] = positional()
    "A dataset folder (`wm-gym data info` says which), or several of one environment."
    out: Annotated[str, "WORLD"]
    """The world folder to write; checkpoints and logs lie in WORLD.training, and the same command goes on from there;
    what is of use later is WORLD.log in the end."""
    preset: str = flag(default=TrainOptions.preset, choices=[name for name in PRESETS if name != "adapter"])
    """tiny: seconds, for tests; small: a CPU in an hour or two; base: a GPU; finetune: minutes, with --init (default:
    small)."""
    options: TrainOptions = part("preset", "progress", "base", "prompt", filters="filter", overrides="set")

    def run(self) -> None:
        from wm_gym.training import train

        out = train(self.dataset, self.out, self.options)
        print(f'trained: {out}\nnext: gym.make("wm_gym/World-v0", world="{out}")')


class Finetune(Command):
    """Make a pretrained video model a world, by an adapter for actions."""

    name = "finetune"
    example = "wm-gym finetune reach-data --base Wan-AI/Wan2.2-TI2V-5B-Diffusers --size 256 --out my-world"

    dataset: Annotated[Sequence[str], "DATASET"] = positional()
    "As for `wm-gym train`."
    base: Annotated[str, "PATH_OR_HUB_ID"]
    "A diffusers pipeline: Stable Video Diffusion, or Wan 2.2 TI2V."
    out: Annotated[str, "WORLD"]
    "The world folder to write: the adapter alone."
    options: TrainOptions = part("preset", "init", "progress", "action_free", "base", filters="filter", overrides="set")

    def run(self) -> None:
        from wm_gym.training import train

        out = train(self.dataset, self.out, replace(self.options, preset="adapter"))
        print(f'finetuned: {out}\nnext: gym.make("wm_gym/World-v0", world="{out}")')


class Improve(Command):
    """Train an agent in a world, record it in the twin, finetune the world, and again."""

    name = "improve"
    example = "wm-gym improve my-world --dataset reach-data --rounds 2 --out improved"

    world: Annotated[str, "WORLD"] = positional()
    "A world folder, or the name of a shipped one."
    dataset: Sequence[Annotated[str, "DATASET"]] = flag()
    "What the world was trained on."
    out: Annotated[str, "DIR"]
    "Agents, recordings, worlds, improve.json and improve.png; the same command goes on there."
    options: ImproveOptions = part("preset", "progress", twin_id="twin", recipe_file="recipe", overrides="set")

    def run(self) -> None:
        from wm_gym.rl.improve import NOTES_FILE, PLOT_FILE, improve

        options = replace(self.options, overrides=self.options.overrides or {})  # as the notes of earlier runs have it
        out = improve(self.world, self.dataset, self.out, options)
        print(f"improved: {out / NOTES_FILE} and {out / PLOT_FILE}")


class Calibrate(Command):
    """Measure how wrong a world is at each uncertainty."""

    name = "calibrate"
    example = "wm-gym calibrate my-world held-out-data"

    world: Annotated[str, "WORLD"] = positional()
    "A world folder; what is measured is written into it."
    dataset: Annotated[Sequence[str], "DATASET"] = positional(default=(), nargs="*")
    """Recordings that the world was not trained on, as its users will act in it; 1,000 episodes make the guaranteed
    90 % exact to 2 points."""
    policies: Annotated[Sequence[str], "AGENT"] = ()
    "Set the world's success_threshold so that these succeed as often in it as in its environment."
    episodes: Count = 400
    "Matched starts of each of the policies."
    refit: bool = False
    "First train the world's uncertainty anew on half of the episodes."
    alpha: float = 0.1
    "The guarantee holds in 1 - ALPHA of episodes."
    seed: int = 0
    "Seed of the roll-outs and of the refit."
    cpu: bool = False
    "Leave the GPUs alone."

    def run(self) -> None:
        import numpy as np

        from wm_gym.evaluation.ranking.threshold import calibrate_judge
        from wm_gym.evaluation.trust.calibrate import calibrate
        from wm_gym.worlds.spec import WorldSpec

        if not (self.dataset or self.policies):
            raise ValueError("nothing to calibrate on: give recordings, --policies AGENT ..., or both")
        if self.dataset:
            before = WorldSpec.load(self.world).success_threshold
            made = calibrate(self.world, self.dataset, self.refit, self.alpha, self.seed, self.cpu)
            print(
                f"calibrated on {made.measured_on}: the error stays below {made.factor:.2f} x the uncertainty in "
                f"{1 - made.alpha:.0%} of episodes; trust_horizon at a start {made.trust_horizon(np.array(0.0))} of "
                f"{made.steps} steps; success_threshold {before} -> {WorldSpec.load(self.world).success_threshold}"
            )
        if self.policies:
            found = calibrate_judge(self.world, self.policies, self.episodes, self.seed)
            print(
                f"success_threshold {found['before']} -> {found['threshold']} on {found['policies']} policies: of what "
                f"physics fails the world calls {found['was']['optimism']['rate']:.1%} -> "
                f"{found['now']['optimism']['rate']:.1%} a success, of what succeeds there "
                f"{found['was']['pessimism']['rate']:.1%} -> {found['now']['pessimism']['rate']:.1%} a failure"
            )


class Compile(Command):
    """Compile a world's step ahead of time, into the user's cache."""

    name = "compile"
    example = "wm-gym compile Push-v0 --batch 1 32"

    world: Annotated[str, "WORLD"] = positional(help=WORLD_HELP)
    batch: Annotated[Sequence[Count], "B"] = (1, 32)
    "Numbers of environments stepped at once (default: 1 32)."
    backend: str = flag(default="auto", help=f"auto, {', '.join(BACKENDS)}")
    device: str = "auto"
    "auto, cpu or a CUDA device."
    precision: str = flag(default="auto", help=f"auto, {', '.join(PRECISIONS)} (default: the back-end's)")
    no_frames: bool = False
    "The step of observation='latent', without pictures."

    def run(self) -> None:
        import time

        from wm_gym.engine import make_engine
        from wm_gym.engine.shared import load_world

        engine = make_engine(load_world(self.world), self.backend, self.device, not self.no_frames, self.precision)
        for batch in self.batch:
            started = time.monotonic()
            engine.compile(batch)
            print(f"{engine.name} {engine.precision}, batch {batch}: {time.monotonic() - started:.1f} s")


class Push(Command):
    """Upload a world or an agent to the Hugging Face Hub, with LeRobot's EnvHub entry point."""

    name = "push"
    example = "wm-gym push my-world --to user/my-world"

    folder: Annotated[str, "WORLD|AGENT"] = positional()
    "Its folder, or the name of a shipped one."
    to: Annotated[str, "REPO"]
    "user/repo on the Hub (log in first: hf auth login), or a new folder, . or / in front."
    private: bool = False
    "Make the repository private where it is new."

    def run(self) -> None:
        from wm_gym.publish import push

        where = push(self.folder, self.to, self.private)
        print(f'pushed: {where}\nnext: gym.make("wm_gym/World-v0", world="{self.to}")  # of a world')


COMMANDS = (Record, Train, CheckWorld, Finetune, Improve, Calibrate, Compile, Push)
