"""What can be typed? The `wm-gym` command and all its words.

Each command is one `Command` below: its help text, its flags and the function that does the work. The functions import
what they need when they run, so `wm-gym --help` stays quick.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from wm_gym import __version__
from wm_gym.data.rollout import POLICIES
from wm_gym.engine import BACKENDS, PRECISIONS
from wm_gym.training.presets import PRESETS, Preset

SIZE_HELP = "resize the frames, e.g. 64 or 96x160 (default: as they are)"
ENV_ID_HELP = "id of a registered environment; module:id imports the module first, e.g. gym_pusht:gym_pusht/PushT-v0"


@dataclass(frozen=True)
class Command:
    """One command: the words that name it, one line of help, an example, its flags and its handler."""

    name: str
    help: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


# ---------------------------------------------------------------- values


def json_object(text: str) -> dict:
    """Keyword arguments as a JSON object, e.g. '{"size": 96}'."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error}); write e.g. '{{\"size\": 96}}'") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object; write e.g. '{{\"size\": 96}}'")
    return value


def frame_size(text: str) -> tuple[int, int]:
    """A frame's height and width: '64' is (64, 64), '96x160' is (96, 160)."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame size; write 64 or HEIGHTxWIDTH, e.g. 96x160")
    return int(parts[0]), int(parts[-1])


def positive_int(text: str) -> int:
    """A whole number >= 1; underscores may group its digits."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return value


# ---------------------------------------------------------------- record


def add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("env_id", metavar="ENV_ID", help=ENV_ID_HELP)
    parser.add_argument("--episodes", type=positive_int, required=True, metavar="N",
                        help="how many the dataset holds at the end (with what an interrupted run left there)")
    parser.add_argument("--policy", default="mix",
                        help=f"who acts: {', '.join(POLICIES)} or agent:FOLDER; mix takes of the scripts what the "
                             "environment has: all for wm-gym's physics twins, random alone for any other "
                             "(default: mix)")
    parser.add_argument("--out", required=True, metavar="DIR", help="the LeRobotDataset v3.0 folder to write")
    parser.add_argument("--seed", type=int, default=0, help="episode i depends on (seed, i) only (default: 0)")
    parser.add_argument("--workers", type=positive_int, default=None, metavar="N",
                        help="processes; the data do not depend on it (default: one a core)")
    parser.add_argument("--noise", type=float, default=0.3,
                        help="how much `noisy` perturbs the expert, 0 to 1 (default: 0.3)")
    parser.add_argument("--size", type=frame_size, default=None, metavar="HxW", help=SIZE_HELP)
    parser.add_argument("--env-kwargs", type=json_object, default=None, metavar="JSON",
                        help="keyword arguments for gym.make, e.g. '{\"size\": 96}'")
    parser.add_argument("--no-resume", action="store_true", help="fail if DIR holds a dataset, instead of going on")


def run_record(args: argparse.Namespace) -> None:
    from wm_gym.data.record import record

    out = record(
        args.env_id, args.episodes, policy=args.policy, out=args.out, seed=args.seed, workers=args.workers,
        noise=args.noise, size=args.size, resume=not args.no_resume, env_kwargs=args.env_kwargs,
    )
    print(f"recorded: {out}\nnext: wm-gym train {out} --out WORLD")


# ---------------------------------------------------------------- train


def add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", nargs="+",
                        help="a LeRobotDataset v3.0 folder, or several of one environment")
    parser.add_argument("--out", required=True, metavar="WORLD",
                        help="the world folder to write; checkpoints and logs lie in WORLD.training, and the same "
                             "command goes on from there")
    parser.add_argument("--preset", choices=PRESETS, default="small",
                        help="tiny: seconds, for tests; small: a CPU in an hour or two; base: a GPU; finetune: "
                             "minutes, with --init (default: small)")
    parser.add_argument("--init", default=None, metavar="WORLD",
                        help="go on from this trained world, with --preset finetune and more recordings")
    parser.add_argument("--set", type=preset_field, action="append", default=[], metavar="FIELD=VALUE",
                        help="change one number of the preset, e.g. dynamics_updates=2000; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="the one seed of the whole training (default: 0)")
    parser.add_argument("--camera", default=None, metavar="KEY",
                        help="which camera, by its short or whole name, e.g. wrist_left (default: the first)")
    parser.add_argument("--size", type=frame_size, default=None, metavar="HxW", help=SIZE_HELP)
    parser.add_argument("--name", default=None, help="what the world is called (default: the name of its folder)")
    parser.add_argument("--cpu", action="store_true", help="leave the GPUs alone")
    parser.add_argument("--overwrite", action="store_true", help="start anew where WORLD or its training is there")


def preset_field(text: str) -> tuple[str, object]:
    """One field of a preset and its value: 'dynamics_updates=2000', 'rollout_lengths=[2,4]', 'dynamics=dit'."""
    name, equals, value = text.partition("=")
    known = sorted(field.name for field in fields(Preset))
    if not equals or name not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE with one of the preset's fields {known}")
    if isinstance(getattr(Preset, name), str):
        return name, value
    try:
        value = json.loads(value)
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(f"{text!r}: the value is neither a number nor a list like [2,4]") from None
    return name, tuple(value) if isinstance(value, list) else value


def run_train(args: argparse.Namespace) -> None:
    from wm_gym.training import train

    out = train(
        args.dataset, args.out, preset=args.preset, overrides=dict(args.set), seed=args.seed, camera=args.camera,
        size=args.size, name=args.name, init=args.init, cpu=args.cpu, overwrite=args.overwrite,
    )
    print(f"trained: {out}\nnext: gym.make(\"wm_gym/World-v0\", world=\"{out}\")")


# ---------------------------------------------------------------- compile


def add_compile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", metavar="WORLD", help="a world folder, a Hub id, or the name of a shipped one")
    parser.add_argument("--batch", type=positive_int, nargs="+", default=[1, 32], metavar="B",
                        help="numbers of environments stepped at once (default: 1 32)")
    parser.add_argument("--backend", default="auto", help=f"auto, {', '.join(BACKENDS)} (default: auto)")
    parser.add_argument("--device", default="auto", help="auto, cpu or a CUDA device (default: auto)")
    parser.add_argument("--precision", default="auto", help=f"auto, {', '.join(PRECISIONS)} (default: the back-end's)")
    parser.add_argument("--no-frames", action="store_true", help="the step of observation='latent', without pictures")


def run_compile(args: argparse.Namespace) -> None:
    import time

    from wm_gym.engine import make_engine
    from wm_gym.shared import load_world

    engine = make_engine(load_world(args.world), args.backend, args.device, not args.no_frames, args.precision)
    for batch in args.batch:
        started = time.monotonic()
        engine.compile(batch)
        print(f"{engine.name} {engine.precision}, batch {batch}: {time.monotonic() - started:.1f} s")


# ---------------------------------------------------------------- agent train, agent clone, agent evaluate


def add_agent_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("algo", metavar="ALGO", help="ppo, sac or dqn")
    parser.add_argument("--env", required=True, metavar="ENV_ID", help=ENV_ID_HELP)
    parser.add_argument("--out", required=True, metavar="DIR",
                        help="the agent folder to write; checkpoints, curves and logs lie in DIR.training")
    parser.add_argument("--timesteps", type=positive_int, default=None, metavar="N",
                        help="environment steps (default: the recipe's)")
    parser.add_argument("--max-minutes", type=float, default=None, metavar="M", help="end the training by then")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--env-kwargs", type=json_object, default=None, metavar="JSON",
                        help="keyword arguments for the environment, e.g. '{\"world\": \"my-world\"}'")
    parser.add_argument("--recipe", default=None, metavar="FILE",
                        help="YAML in rl_zoo3's keys (default: wm_gym/rl/recipes/ALGO.yml)")
    parser.add_argument("--init", default=None, metavar="AGENT", help="go on from the policy of this agent")
    parser.add_argument("--device", default="auto", help="where the policy learns: auto, cpu, cuda (default: auto)")
    parser.add_argument("--resume", action="store_true", help="go on from DIR's last checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="start anew where DIR or its training is there")


def run_agent_train(args: argparse.Namespace) -> None:
    from wm_gym.registration import find_spec

    find_spec(args.env)  # an unknown id ends here, before torch is loaded and a folder begun
    from wm_gym.rl.train import train_agent

    out = train_agent(
        args.algo, args.env, args.out, timesteps=args.timesteps, seed=args.seed, resume=args.resume,
        env_kwargs=args.env_kwargs, recipe_file=args.recipe, init=args.init, max_minutes=args.max_minutes,
        device=args.device, overwrite=args.overwrite,
    )
    print(f"trained: {out}\nnext: wm-gym agent evaluate {out} --env {args.env} --episodes 100")


def add_agent_clone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="a LeRobotDataset v3.0 folder, best of an expert")
    parser.add_argument("--env", required=True, metavar="ENV_ID",
                        help="whose pixels and actions these are; " + ENV_ID_HELP)
    parser.add_argument("--out", required=True, metavar="DIR", help="the agent folder to write")
    parser.add_argument("--episodes", type=positive_int, default=None, metavar="N",
                        help="only the first so many (default: all; every tenth is held out)")
    parser.add_argument("--updates", type=positive_int, default=3000, metavar="N", help="(default: 3000)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--recipe", default=None, metavar="FILE",
                        help="YAML whose ppo policy it is (default: wm_gym/rl/recipes/ppo.yml)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--overwrite", action="store_true", help="replace an agent that is there")


def run_agent_clone(args: argparse.Namespace) -> None:
    from wm_gym.rl.clone import clone_agent

    out = clone_agent(args.dataset, args.env, args.out, updates=args.updates, episodes=args.episodes, seed=args.seed,
                      recipe_file=args.recipe, device=args.device, overwrite=args.overwrite)
    print(f"cloned: {out}\nnext: wm-gym agent evaluate {out} --env {args.env} --episodes 100")


def add_agent_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agent", metavar="AGENT", help="an agent folder, or the name of one in agents/")
    parser.add_argument("--env", required=True, metavar="ENV_ID",
                        help=ENV_ID_HELP + "; a learned world with a physics twin, or that twin: the policy is "
                             "measured in both from the same starts")
    parser.add_argument("--episodes", type=positive_int, default=100, metavar="N", help="(default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the starts (default: 0)")
    parser.add_argument("--env-kwargs", type=json_object, default=None, metavar="JSON",
                        help="keyword arguments for the environment, e.g. '{\"world\": \"my-world\"}'")
    parser.add_argument("--video", default=None, metavar="FILE", help="also write an .mp4 or .gif of some episodes")
    parser.add_argument("--json", default=None, metavar="FILE", help="also write everything, an entry an episode")
    parser.add_argument("--save", action="store_true", help="keep the results in the agent's folder and on its card")


def run_agent_evaluate(args: argparse.Namespace) -> None:
    from wm_gym.rl.evaluate import evaluate_agent, summary

    results = evaluate_agent(
        args.agent, args.env, args.episodes, args.seed, env_kwargs=args.env_kwargs, video=args.video, save=args.save,
    )
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=2)
    print(summary(results))


# ---------------------------------------------------------------- evaluate-policies


def add_evaluate_policies(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agents", metavar="AGENT", nargs="+", help="agent folders, each trained independently")
    parser.add_argument("--out", required=True, metavar="DIR",
                        help="policies.json, policies.png and a file a policy; the same command goes on there")
    parser.add_argument("--world", default=None, metavar="WORLD",
                        help="judge all in this world (default: each in its own, or in the one whose twin is its own)")
    parser.add_argument("--episodes", type=positive_int, default=400, metavar="N",
                        help="matched starts a policy (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="of the starts (default: 0)")


def run_evaluate_policies(args: argparse.Namespace) -> None:
    from wm_gym.evaluation.policies import evaluate_policies, summary

    print(summary(evaluate_policies(args.agents, args.out, args.episodes, args.seed, world=args.world)))


# ---------------------------------------------------------------- improve


def add_improve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", metavar="WORLD", help="a world folder, or the name of a shipped one")
    parser.add_argument("--dataset", required=True, action="append", metavar="DATASET",
                        help="what the world was trained on; may be repeated")
    parser.add_argument("--out", required=True, metavar="DIR",
                        help="agents, recordings, worlds, improve.json and improve.png; the same command goes on there")
    parser.add_argument("--rounds", type=positive_int, default=2, metavar="N",
                        help="agents trained; the world is finetuned between them (default: 2)")
    parser.add_argument("--twin", default=None, metavar="ENV_ID", help="(default: the twin that the world names)")
    parser.add_argument("--algo", default="ppo", help="ppo, sac or dqn (default: ppo)")
    parser.add_argument("--timesteps", type=positive_int, default=None, metavar="N",
                        help="environment steps of the first agent (default: the recipe's)")
    parser.add_argument("--more-timesteps", type=positive_int, default=None, metavar="N",
                        help="of the later ones, which go on from the one before (default: as many)")
    parser.add_argument("--recipe", default=None, metavar="FILE",
                        help="YAML in rl_zoo3's keys (default: wm_gym/rl/recipes/ALGO.yml)")
    parser.add_argument("--episodes", type=positive_int, default=200, metavar="N",
                        help="recorded in the twin each round (default: 200)")
    parser.add_argument("--evaluations", type=positive_int, default=100, metavar="N",
                        help="matched starts of each round's measurement (default: 100)")
    parser.add_argument("--set", type=preset_field, action="append", default=[], metavar="FIELD=VALUE",
                        help="change one number of the finetune preset, e.g. dynamics_updates=2000; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")


def run_improve(args: argparse.Namespace) -> None:
    from wm_gym.rl.improve import NOTES_FILE, PLOT_FILE, improve

    out = improve(args.world, args.dataset, args.out, args.rounds, twin_id=args.twin, algo=args.algo,
                  timesteps=args.timesteps, more_timesteps=args.more_timesteps, recipe_file=args.recipe,
                  episodes=args.episodes, evaluations=args.evaluations, seed=args.seed, overrides=dict(args.set))
    print(f"improved: {out / NOTES_FILE} and {out / PLOT_FILE}")


# ---------------------------------------------------------------- demo


def add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env", default="wm_gym/Reach-v0", metavar="ENV_ID",
                        help="a shipped world with a physics twin (default: wm_gym/Reach-v0)")
    parser.add_argument("--out", default="outputs/demo", metavar="DIR", help="(default: outputs/demo)")
    parser.add_argument("--minutes", type=float, default=6.0, metavar="M",
                        help="the training ends by then (default: 6)")
    parser.add_argument("--episodes", type=positive_int, default=100, metavar="N",
                        help="matched starts of the evaluation (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")


def run_demo(args: argparse.Namespace) -> None:
    from wm_gym.rl.demo import demo

    demo(args.out, args.minutes, args.seed, env_id=args.env, episodes=args.episodes)


COMMANDS = (
    Command("record", "record an environment's episodes as video and actions (LeRobotDataset v3.0)",
            "wm-gym record wm_gym/ReachPyBullet-v0 --episodes 100 --policy mix --out reach-data",
            add_record, run_record),
    Command("train", "train a world on a dataset",
            "wm-gym train reach-data --out my-world --preset small",
            add_train, run_train),
    Command("compile", "compile a world's step ahead of time, into the user's cache",
            "wm-gym compile Push-v0 --batch 1 32",
            add_compile, run_compile),
    Command("agent train", "train a policy in an environment with Stable-Baselines3",
            "wm-gym agent train ppo --env wm_gym/Reach-v0 --out my-agent",
            add_agent_train, run_agent_train),
    Command("agent clone", "train a policy to repeat a dataset's actions (behaviour cloning)",
            "wm-gym agent clone expert-data --env wm_gym/ReachPyBullet-v0 --out my-clone",
            add_agent_clone, run_agent_clone),
    Command("agent evaluate", "measure a policy, in a learned world and in its physics twin from the same starts",
            "wm-gym agent evaluate my-agent --env wm_gym/Reach-v0 --episodes 100",
            add_agent_evaluate, run_agent_evaluate),
    Command("evaluate-policies", "does a world judge policies as its physics twin does?",
            "wm-gym evaluate-policies agent-a agent-b agent-c agent-d --out judged",
            add_evaluate_policies, run_evaluate_policies),
    Command("improve", "train an agent in a world, record it in the twin, finetune the world, and again",
            "wm-gym improve my-world --dataset reach-data --rounds 2 --out improved",
            add_improve, run_improve),
    Command("demo", "train a policy inside the shipped Reach world, check it in physics, write a report",
            "wm-gym demo",
            add_demo, run_demo),
)
GROUPS = {"agent": "train, clone or evaluate a policy"}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; `python -m wm_gym` is the same command."""
    parser = argparse.ArgumentParser(
        prog="wm-gym", description="Record robot video, train a video world model on it, and gym.make the result.")
    parser.add_argument("--version", action="version", version=f"wm-gym {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    groups = {
        group: commands.add_parser(group, help=text, description=text).add_subparsers(metavar="COMMAND", required=True)
        for group, text in GROUPS.items()
    }
    for command in COMMANDS:
        *group, word = command.name.split()
        sub = (groups[group[0]] if group else commands).add_parser(
            word, help=command.help, description=command.help + ".", epilog=f"example: {command.example}")
        command.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
        sub.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 for an error that its user can mend, 130 when interrupted."""
    args = build_parser().parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if args.debug or not mendable(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def mendable(error: Exception) -> bool:
    """Whether an error is about what was typed, is installed or on the disk; any other is a bug and keeps its trace."""
    if isinstance(error, ImportError):
        return not (error.name or "").startswith("wm_gym")
    if isinstance(error, (ValueError, OSError)):
        return True
    gymnasium = sys.modules.get("gymnasium")
    return gymnasium is not None and isinstance(error, gymnasium.error.Error)


if __name__ == "__main__":
    sys.exit(main())
