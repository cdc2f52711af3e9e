"""Which command says how often a judge is right?"""

from __future__ import annotations

import argparse

from wm_gym.cli.command import Command, json_object, positive_int


def add_measure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dataset", metavar="DATASET", help="a recording that holds success as physics has it, e.g. of a twin"
    )
    parser.add_argument(
        "--reward",
        required=True,
        metavar="JUDGE",
        help="learned, goal:IMAGE, text:PROMPT, clip:PROMPT, vlm:MODEL or vlm:server:MODEL",
    )
    parser.add_argument(
        "--reward-kwargs",
        type=json_object,
        default=None,
        metavar="JSON",
        help="options of the judge, e.g. '{\"threshold\": 0.9}'",
    )
    parser.add_argument(
        "--world",
        default=None,
        metavar="WORLD",
        help="the world whose head (learned) or tokenizer (goal) judges: a folder, a Hub id, a shipped one's name",
    )
    parser.add_argument("--episodes", type=positive_int, default=None, metavar="N", help="the first N (default: all)")
    parser.add_argument(
        "--every",
        type=positive_int,
        default=1,
        metavar="K",
        help="judge every K-th frame, and each episode's last (default: 1)",
    )
    parser.add_argument("--out", default=None, metavar="FILE.json", help="write all the numbers there, too")


def run_measure(args: argparse.Namespace) -> None:
    from wm_gym.common.files import write_json
    from wm_gym.data import open_clips
    from wm_gym.engine.shared import load_world
    from wm_gym.evaluation.judges.confusion import measure_judge, summary
    from wm_gym.judges import LEARNED, make_judge

    world = load_world(args.world) if args.world or args.reward == LEARNED else None
    camera, size = (world.spec.camera or None, world.spec.frame_size) if world else (None, None)
    clips = open_clips(args.dataset, camera, size)
    judge = make_judge(args.reward, world, clips.meta["task_description"], **(args.reward_kwargs or {}))
    by = judge or world
    assert by is not None  # `learned` has a world
    found = measure_judge(by, clips, args.episodes, args.every, progress=True)
    if args.out:
        write_json(args.out, found, indent=1)
    print(summary(found))


COMMANDS = (
    Command(
        "judge measure",
        "count how often a judge of frames is right about success, beside physics",
        "wm-gym judge measure data/reach-held --reward goal:goal.png --world Reach-v0",
        add_measure,
        run_measure,
    ),
)
