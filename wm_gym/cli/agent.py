"""Which commands train a policy and measure it?"""

from __future__ import annotations

import argparse
import os
import sys

from wm_gym.cli.command import ENV_ID_HELP, Command, add_options, json_object, options_of, positive_int
from wm_gym.collect.options import ImagineOptions
from wm_gym.policies.options import CloneOptions, PlannerOptions
from wm_gym.policies.planning import Search
from wm_gym.rl.options import AgentOptions, DemoOptions

ENV_KWARGS_HELP = 'keyword arguments for the environment, e.g. \'{"world": "my-world"}\''


def add_agent_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("algo", metavar="ALGO", help="ppo, sac or dqn")
    parser.add_argument("--env", required=True, metavar="ENV_ID", help=ENV_ID_HELP)
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="the agent folder to write; checkpoints, curves and logs lie in DIR.training",
    )
    leave_out = ("recipe", "recipe_id", "checkpoint_every", "callback", "progress")
    add_options(parser, AgentOptions, leave_out, recipe_file="recipe")


def run_agent_train(args: argparse.Namespace) -> None:
    from wm_gym.common.registry import find_spec

    find_spec(args.env)  # an unknown id ends here, before torch is loaded and a folder begun
    from wm_gym.rl.train import train_agent

    try:
        out = train_agent(args.algo, args.env, args.out, options_of(AgentOptions, args))
    except KeyboardInterrupt:
        print("the same command with --resume goes on from there", file=sys.stderr)
        raise
    print(f"trained: {out}\nnext: wm-gym agent evaluate {out} --env {args.env} --episodes 100")


def add_agent_clone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "datasets",
        metavar="DATASET",
        nargs="+",
        help="demonstrations, best of an expert; recorded, or made by wm-gym imagine",
    )
    parser.add_argument(
        "--env",
        required=True,
        metavar="ENV_ID",
        help="the environment whose pixels and actions these are; " + ENV_ID_HELP,
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the agent folder to write")
    add_options(parser, CloneOptions, ("batch", "learning_rate", "progress"), recipe_file="recipe")


def run_agent_clone(args: argparse.Namespace) -> None:
    from wm_gym.policies.cloning import clone_agent

    out = clone_agent(args.datasets, args.env, args.out, options_of(CloneOptions, args))
    print(f"cloned: {out}\nnext: wm-gym agent evaluate {out} --env {args.env} --episodes 100")


def add_agent_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", metavar="WORLD", help="a world folder, a Hub id, or the name of a shipped one")
    parser.add_argument("--out", required=True, metavar="DIR", help="the agent folder to write")
    add_options(parser, Search, ("elites", "temperature", "spread"))
    parser.add_argument(
        "--goal",
        default=None,
        metavar="IMAGE",
        help="a picture of the world's size to come near to, instead of the world's reward",
    )
    add_options(parser, PlannerOptions)


def run_agent_plan(args: argparse.Namespace) -> None:
    from wm_gym.policies.config import read_config
    from wm_gym.policies.planner import save_planner

    few = min(Search.elites, getattr(args, "candidates", Search.candidates))
    search = options_of(Search, args, elites=few)
    out = save_planner(args.world, args.out, search, options_of(PlannerOptions, args), goal=args.goal)
    config = read_config(out) or {}
    print(f"written: {out}\nnext: wm-gym agent evaluate {out} --env {config['env_id']} --episodes 20")


def add_agent_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "agent",
        metavar="AGENT",
        help="an agent folder, the name of one in agents/, a policy folder of lerobot, or module:name "
        "of a class, object or function with predict(observation)",
    )
    parser.add_argument(
        "--env",
        required=True,
        metavar="ENV_ID",
        help=ENV_ID_HELP + "; a learned world with a physics twin, or that twin: the policy is "
        "measured in both from the same starts",
    )
    parser.add_argument(
        "--episodes", type=positive_int, default=100, metavar="N", help="episodes to measure (default: 100)"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the starts (default: 0)")
    parser.add_argument("--env-kwargs", type=json_object, default=None, metavar="JSON", help=ENV_KWARGS_HELP)
    parser.add_argument("--video", default=None, metavar="FILE", help="also write an .mp4 or .gif of some episodes")
    parser.add_argument("--json", default=None, metavar="FILE", help="also write everything, an entry an episode")
    parser.add_argument("--save", action="store_true", help="keep the results in the agent's folder and on its card")
    parser.add_argument(
        "--trust", action="store_true", help="load a Stable-Baselines3 zip, which runs the code of whoever wrote it"
    )
    parser.add_argument(
        "--lerobot-python",
        default=None,
        metavar="PYTHON",
        help="the Python of an environment that has lerobot, for its policies (default: $WM_GYM_LEROBOT_PYTHON)",
    )


def run_agent_evaluate(args: argparse.Namespace) -> None:
    from wm_gym.common.files import write_json
    from wm_gym.policies.loaders import load_agent
    from wm_gym.policies.matched import evaluate_agent, summary

    if args.lerobot_python:
        os.environ["WM_GYM_LEROBOT_PYTHON"] = args.lerobot_python  # for this process and its workers
    results = evaluate_agent(
        load_agent(args.agent, allow_pickle=args.trust),
        args.env,
        args.episodes,
        args.seed,
        env_kwargs=args.env_kwargs,
        video=args.video,
        save=args.save,
    )
    print(summary(results))
    if args.json:
        write_json(args.json, results, indent=2)


def add_evaluate_policies(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agents", metavar="AGENT", nargs="+", help="agent folders, each trained independently")
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="policies.json, policies.png and a file a policy; the same command goes on there",
    )
    parser.add_argument(
        "--world",
        default=None,
        metavar="WORLD",
        help="judge all in this world (default: each in its own, or in the one whose twin is its own)",
    )
    parser.add_argument(
        "--episodes", type=positive_int, default=400, metavar="N", help="matched starts a policy (default: 400)"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the starts (default: 0)")
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=None,
        metavar="N",
        help="policies measured at once; the numbers do not depend on it (default: one a core)",
    )
    parser.add_argument(
        "--ray",
        default=None,
        metavar="ADDRESS",
        help="measure on a Ray cluster: auto, ray://HOST:10001, or local (one of --workers CPUs here)",
    )


def run_evaluate_policies(args: argparse.Namespace) -> None:
    from wm_gym.evaluation.ranking.policies import evaluate_policies, summary

    print(
        summary(
            evaluate_policies(
                args.agents, args.out, args.episodes, args.seed, world=args.world, workers=args.workers, ray=args.ray
            )
        )
    )


def add_imagine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", metavar="WORLD", help="a world folder, a Hub id, or the name of a shipped one")
    parser.add_argument(
        "--policy",
        required=True,
        help="an agent or planner (folder, or the name of a shipped one), random, no-op, or "
        "directive:NUMBERS, one action that is repeated",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the LeRobotDataset v3.0 folder to write")
    parser.add_argument(
        "--episodes",
        type=positive_int,
        default=100,
        metavar="N",
        help="episodes that are imagined; those that do not pass are left out (default: 100)",
    )
    add_options(parser, ImagineOptions, ("progress",), labeller="idm")


def run_imagine(args: argparse.Namespace) -> None:
    from collections import Counter

    from wm_gym.collect.imagine import imagine

    kept, rejected = imagine(args.world, args.policy, args.out, args.episodes, options_of(ImagineOptions, args))
    for why, count in Counter(rejected.values()).most_common(10):
        print(f"{count} left out: {why}")
    print(
        f"imagined: {kept} of {args.episodes} episodes, in {args.out}\nnext: wm-gym agent clone REAL {args.out} "
        "--env ENV_ID --out AGENT"
        if kept
        else "nothing is written: no episode passes"
    )


def add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        default="outputs/demo",
        metavar="DIR",
        help="folder of the agent and the report (default: outputs/demo)",
    )
    add_options(parser, DemoOptions, ("algo", "timesteps"), env_id="env")


def run_demo(args: argparse.Namespace) -> None:
    from wm_gym.rl.demo import demo

    demo(args.out, options_of(DemoOptions, args))


COMMANDS = (
    Command(
        "agent train",
        "train a policy in an environment with Stable-Baselines3",
        "wm-gym agent train ppo --env wm_gym/Reach-v0 --out my-agent",
        add_agent_train,
        run_agent_train,
    ),
    Command(
        "agent clone",
        "train a policy to repeat a dataset's actions (behaviour cloning)",
        "wm-gym agent clone expert-data --env wm_gym/ReachPyBullet-v0 --out my-clone",
        add_agent_clone,
        run_agent_clone,
    ),
    Command(
        "agent plan",
        "make an agent that plans in a world instead of having learned",
        "wm-gym agent plan Push-v0 --out my-planner",
        add_agent_plan,
        run_agent_plan,
    ),
    Command(
        "imagine",
        "make demonstrations in a world: a policy's successes there, as a dataset",
        "wm-gym imagine Push-v0 --policy ppo-Push-v0 --idm idm/push --out data/imagined",
        add_imagine,
        run_imagine,
    ),
    Command(
        "agent evaluate",
        "measure a policy, in a learned world and in its physics twin from the same starts",
        "wm-gym agent evaluate my-agent --env wm_gym/Reach-v0 --episodes 100",
        add_agent_evaluate,
        run_agent_evaluate,
    ),
    Command(
        "evaluate-policies",
        "does a world judge policies as its physics twin does?",
        "wm-gym evaluate-policies agent-a agent-b agent-c agent-d --out judged",
        add_evaluate_policies,
        run_evaluate_policies,
    ),
    Command(
        "demo",
        "train a policy inside the shipped Reach world, check it in physics, write a report",
        "wm-gym demo",
        add_demo,
        run_demo,
    ),
)
