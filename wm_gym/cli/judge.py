"""Which command says how often a judge is right?"""

from __future__ import annotations

from typing import Annotated

from wm_gym.cli.command import Command, flag, positional
from wm_gym.common.options import Count, Json


class JudgeMeasure(Command):
    """Count how often a judge of frames is right about success, beside physics."""

    name = "judge measure"
    example = "wm-gym judge measure data/reach-held --reward goal:goal.png --world Reach-v0"

    dataset: Annotated[str, "DATASET"] = positional()
    "A recording that holds success as physics has it, e.g. of a twin."
    reward: Annotated[str, "JUDGE"]
    "learned, goal:IMAGE, text:PROMPT, clip:PROMPT, vlm:MODEL or vlm:server:MODEL."
    reward_kwargs: Json | None = None
    "Options of the judge, e.g. '{\"threshold\": 0.9}'."
    world: Annotated[str, "WORLD"] | None = None
    "The world whose head (learned) or tokenizer (goal) judges: a folder, a Hub id, a shipped one's name."
    episodes: Count | None = None
    "The first N (default: all)."
    every: Count = flag(default=1, metavar="K")
    "Judge every K-th frame, and each episode's last."
    out: Annotated[str, "FILE.json"] | None = None
    "Write all the numbers there, too."

    def run(self) -> None:
        from wm_gym.common.files import write_json
        from wm_gym.data import open_clips
        from wm_gym.engine.shared import load_world
        from wm_gym.evaluation.judges.confusion import measure_judge, summary
        from wm_gym.judges import LEARNED, make_judge

        world = load_world(self.world) if self.world or self.reward == LEARNED else None
        camera, size = (world.spec.camera or None, world.spec.frame_size) if world else (None, None)
        clips = open_clips(self.dataset, camera, size)
        judge = make_judge(self.reward, world, clips.meta["task_description"], **(self.reward_kwargs or {}))
        by = judge or world
        assert by is not None  # `learned` has a world
        found = measure_judge(by, clips, self.episodes, self.every, progress=True)
        if self.out:
            write_json(self.out, found, indent=1)
        print(summary(found))


COMMANDS = (JudgeMeasure,)
