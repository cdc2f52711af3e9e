"""Which commands read actions off video, and measure how well?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from wm_gym.cli.command import Command, part, positional
from wm_gym.common.options import Count
from wm_gym.inverse.options import FitOptions


class IdmTrain(Command):
    """Learn to read actions off video (inverse dynamics)."""

    name = "idm train"
    example = "wm-gym idm train data/push --world Push-v0 --out idm/push"

    dataset: Annotated[str, "DATASET"] = positional()
    "A recording with actions."
    out: Annotated[str, "IDM"]
    "The folder to write."
    kind: str = "transformer"
    "pair, video, transformer, flow, masked or latent."
    labels: Annotated[float, "SHARE"] = 1.0
    """Share of the episodes whose actions are learned (default: 1; 0 learns latent actions from the video alone, with
    --kind latent)."""
    world: Annotated[str, "WORLD"] | None = None
    """The world whose generated video will be read: half of the training's frames are drawn by its tokenizer, and video
    that surprises it is refused."""
    options: FitOptions = part("batch", "progress")
    overwrite: bool = False
    "Replace the inverse dynamics in --out."

    def run(self) -> None:
        from wm_gym.data import open_clips
        from wm_gym.evaluation.suite.inverse_benchmark import reading_text, readings
        from wm_gym.inverse.fit import split_labels
        from wm_gym.inverse.labeller import train_labeller

        clips = open_clips(self.dataset)
        made = train_labeller(clips, self.out, self.kind, self.labels, self.world, self.overwrite, self.options)
        if self.labels:
            print(reading_text({"held out": readings(made, clips, split_labels(clips)[1])}))
        print(f"written: {self.out}\nnext: wm-gym idm label VIDEOS --idm {self.out} --out DATASET")


class IdmLabel(Command):
    """Give video the actions that it shows; refuse video of what no robot does."""

    name = "idm label"
    example = "wm-gym idm label videos/ --idm idm/push --out data/labelled"

    dataset: Annotated[str, "VIDEOS"] = positional()
    "Any dataset of video; actions in it are not looked at."
    idm: Annotated[str, "IDM"]
    "A folder that wm-gym idm train made."
    out: Annotated[str, "DIR"]
    "The LeRobotDataset v3.0 folder to write."
    camera: Annotated[str, "KEY"] | None = None
    "Which camera (default: the first)."

    def run(self) -> None:
        from wm_gym.inverse.labeller import VideoLabeller, label_dataset

        kept, rejected = label_dataset(self.dataset, VideoLabeller.load(self.idm), self.out, self.camera)
        for episode, why in rejected.items():
            print(f"episode {episode} is left out: {why}")
        print(
            f"labelled: {kept} of {kept + len(rejected)} episodes, in {self.out}"
            if kept
            else f"nothing is written: all {len(rejected)} episodes are left out"
        )


class IdmMap(Command):
    """Learn from a few recordings which latent action a real one is."""

    name = "idm map"
    example = "wm-gym idm map idm/latent data/push --episodes 10 --out real_actions.json"

    idm: Annotated[str, "IDM"] = positional()
    "Latent ones: wm-gym idm train --kind latent --labels 0."
    dataset: Annotated[str, "DATASET"] = positional()
    "Recordings with real actions."
    episodes: Count | None = None
    "The first N (default: all)."
    out: Annotated[str, "FILE.json"]
    "For wm_gym.wrappers.RealActions."

    def run(self) -> None:
        import numpy as np

        from wm_gym.common.files import write_json
        from wm_gym.data import open_clips
        from wm_gym.inverse.labeller import VideoLabeller, fit_real_actions

        clips = open_clips(self.dataset)
        found = fit_real_actions(VideoLabeller.load(self.idm), clips, np.arange(len(clips))[: self.episodes])
        write_json(self.out, found, indent=1)
        print(
            f'written: {self.out}\nnext: wm_gym.wrappers.RealActions(gym.make("wm_gym/World-v0", world=WORLD), '
            f'"{self.out}")'
        )


class IdmBenchmark(Command):
    """Count how well actions are read off real, generated, noisy and occluded video."""

    name = "idm benchmark"
    example = "wm-gym idm benchmark data/push-held idm/push --world Push-v0"

    dataset: Annotated[str, "DATASET"] = positional()
    "A recording that none of them was trained on."
    idm: Annotated[Sequence[str], "IDM"] = positional()
    "A folder that wm-gym idm train made."
    world: Annotated[str, "WORLD"] | None = None
    "Read its generated video of the same actions, too; a folder, a Hub id, a shipped one's name."
    episodes: Count | None = None
    "The first N (default: all)."
    out: Annotated[str, "FILE.json"] | None = None
    "Write all the numbers there, too."

    def run(self) -> None:
        from wm_gym.common.files import write_json
        from wm_gym.data import open_clips
        from wm_gym.engine.shared import load_world
        from wm_gym.evaluation.suite.inverse_benchmark import benchmark, reading_text
        from wm_gym.inverse.labeller import VideoLabeller

        labellers = {name: VideoLabeller.load(name) for name in self.idm}
        world = load_world(self.world) if self.world else None
        found = benchmark(labellers, open_clips(self.dataset), world, self.episodes)
        if self.out:
            write_json(self.out, found, indent=1)
        for name, conditions in found.items():
            print(f"{name}\n{reading_text(conditions['reading'])}")
            if conditions["replay"]:
                print(f"replayed in physics: {_shares(conditions['replay'])}")
            print(f"refused: {_shares(conditions['rejected'])}")


def _shares(rates: dict[str, dict]) -> str:
    return ", ".join(
        f"{what} " + (f"{100 * rate['rate']:.1f} % of {rate['n']}" if rate["n"] else "none there")
        for what, rate in rates.items()
    )


COMMANDS = (IdmTrain, IdmLabel, IdmMap, IdmBenchmark)
