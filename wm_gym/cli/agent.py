"""Which commands train a policy and measure it?"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

from wm_gym.cli.command import ENV_ID_HELP, WORLD_HELP, Command, flag, part, positional
from wm_gym.collect.options import ImagineOptions
from wm_gym.common.options import Count, Json
from wm_gym.policies.options import CloneOptions, PlannerOptions
from wm_gym.policies.planning import Search
from wm_gym.rl.options import AgentOptions, DemoOptions, LearnOptions


class AgentTrain(Command):
    """Train a policy in an environment with Stable-Baselines3."""

    name = "agent train"
    example = "wm-gym agent train ppo --env wm_gym/Reach-v0 --out my-agent"

    algo: str = positional(help="ppo, sac or dqn", metavar="ALGO")
    env: Annotated[str, "ENV_ID"] = flag(help=ENV_ID_HELP)
    out: Annotated[str, "DIR"]
    "The agent folder to write; checkpoints, curves and logs lie in DIR.training."
    options: AgentOptions = part(
        "recipe", "recipe_id", "checkpoint_every", "callback", "progress", recipe_file="recipe"
    )

    def run(self) -> None:
        from wm_gym.common.registry import find_spec

        find_spec(self.env)  # an unknown id ends here, before torch is loaded and a folder begun
        from wm_gym.rl.train import train_agent

        try:
            out = train_agent(self.algo, self.env, self.out, self.options)
        except KeyboardInterrupt:
            print("the same command with --resume goes on from there", file=sys.stderr)
            raise
        print(f"trained: {out}\nnext: wm-gym agent evaluate {out} --env {self.env} --episodes 100")


class Learn(Command):
    """Learn a world of an environment, and in it an agent for that environment."""

    name = "learn"
    example = "wm-gym learn CartPole-v1 --steps 5000 --out cartpole"

    env_id: Annotated[str, "ENV_ID"] = positional(help=ENV_ID_HELP)
    steps: Count
    "Environment steps that are recorded in all."
    out: Annotated[str, "DIR"]
    "The folder to write: recordings, worlds, agents and learn.json; the same command goes on there."
    options: LearnOptions = part("progress", overrides="set")

    def run(self) -> None:
        from wm_gym.rl.learn import learn

        found = learn(self.env_id, self.steps, self.out, self.options)
        reward = found["environment"]
        print(
            f"learned: {self.out}, {found['steps_used']:,} environment steps, {found['minutes']:g} minutes\n"
            f"return in {self.env_id}: {reward['mean']:.2f} (standard deviation {reward['std']:.2f}); in the world "
            f"{found['world']['mean']:.2f}"
        )


class AgentClone(Command):
    """Train a policy to repeat a dataset's actions (behaviour cloning)."""

    name = "agent clone"
    example = "wm-gym agent clone expert-data --env wm_gym/ReachPyBullet-v0 --out my-clone"

    datasets: Annotated[Sequence[str], "DATASET"] = positional()
    "Demonstrations, best of an expert; recorded, or made by wm-gym imagine."
    env: Annotated[str, "ENV_ID"] = flag(help=f"the environment whose pixels and actions these are; {ENV_ID_HELP}")
    out: Annotated[str, "DIR"]
    "The agent folder to write."
    options: CloneOptions = part("batch", "learning_rate", "progress", recipe_file="recipe")

    def run(self) -> None:
        from wm_gym.policies.cloning import clone_agent

        out = clone_agent(self.datasets, self.env, self.out, self.options)
        print(f"cloned: {out}\nnext: wm-gym agent evaluate {out} --env {self.env} --episodes 100")


class FittingSearch(Search):
    """A search whose number of elites follows from few candidates."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "elites", min(self.elites, self.candidates))
        super().__post_init__()


class AgentPlan(Command):
    """Make an agent that plans in a world instead of having learned."""

    name = "agent plan"
    example = "wm-gym agent plan Push-v0 --out my-planner"

    world: Annotated[str, "WORLD"] = positional(help=WORLD_HELP)
    out: Annotated[str, "DIR"]
    "The agent folder to write."
    search: FittingSearch = part("elites", "temperature", "spread")
    goal: Annotated[str, "IMAGE"] | None = None
    "A picture of the world's size to come near to, instead of the world's reward."
    options: PlannerOptions = part()

    def run(self) -> None:
        from wm_gym.policies.config import read_config
        from wm_gym.policies.planner import save_planner

        out = save_planner(self.world, self.out, self.search, self.options, goal=self.goal)
        config = read_config(out) or {}
        print(f"written: {out}\nnext: wm-gym agent evaluate {out} --env {config['env_id']} --episodes 20")


class AgentEvaluate(Command):
    """Measure a policy, in a learned world and in the environment it was learned from, from the same starts."""

    name = "agent evaluate"
    example = "wm-gym agent evaluate my-agent --env wm_gym/Reach-v0 --episodes 100"

    agent: Annotated[str, "AGENT"] = positional()
    """An agent folder, the name of one in agents/, a policy folder of lerobot, or module:name of a class, object or
    function with predict(observation)."""
    env: Annotated[str, "ENV_ID"] = flag(
        help=f"{ENV_ID_HELP}; a learned world, or the environment that the policy's world was learned from (a physics "
        "twin, or any other that is registered): the policy is measured in both from the same starts"
    )
    episodes: Count = 100
    "Episodes to measure."
    seed: int = 0
    "Draws the starts."
    env_kwargs: Json | None = None
    'Keyword arguments for the environment, e.g. \'{"world": "my-world"}\'.'
    video: Annotated[str, "FILE"] | None = None
    "Also write an .mp4 or .gif of some episodes."
    json: Annotated[str, "FILE"] | None = None
    "Also write everything, an entry an episode."
    save: bool = False
    "Keep the results in the agent's folder and on its card."
    trust: bool = False
    "Load a Stable-Baselines3 zip, which runs the code of whoever wrote it."
    lerobot_python: Annotated[str, "PYTHON"] | None = None
    "The Python of an environment that has lerobot, for its policies (default: $WM_GYM_LEROBOT_PYTHON)."

    def run(self) -> None:
        from wm_gym.common.files import write_json
        from wm_gym.policies.loaders import load_agent
        from wm_gym.policies.matched import evaluate_agent, summary

        if self.lerobot_python:
            os.environ["WM_GYM_LEROBOT_PYTHON"] = self.lerobot_python  # for this process and its workers
        agent, kwargs = load_agent(self.agent, allow_pickle=self.trust), self.env_kwargs
        results = evaluate_agent(
            agent, self.env, self.episodes, self.seed, env_kwargs=kwargs, video=self.video, save=self.save
        )
        print(summary(results))
        if self.json:
            write_json(self.json, results, indent=2)


class EvaluatePolicies(Command):
    """Say whether a world judges policies as the environment does that it was learned from."""

    name = "evaluate-policies"
    example = "wm-gym evaluate-policies agent-a agent-b agent-c agent-d --out judged"

    agents: Annotated[Sequence[str], "AGENT"] = positional()
    "Agent folders, each trained independently."
    out: Annotated[str, "DIR"]
    "policies.json, policies.png and a file a policy; the same command goes on there."
    world: Annotated[str, "WORLD"] | None = None
    "Judge all in this world (default: each in its own, or in the one whose twin is its own)."
    episodes: Count = 400
    "Matched starts a policy."
    seed: int = 0
    "Draws the starts."
    workers: Count | None = None
    "Policies measured at once; the numbers do not depend on it (default: one a core)."
    ray: Annotated[str, "ADDRESS"] | None = None
    "Measure on a Ray cluster: auto, ray://HOST:10001, or local (one of --workers CPUs here)."

    def run(self) -> None:
        from wm_gym.evaluation.ranking.policies import evaluate_policies, summary

        where = (self.agents, self.out, self.episodes, self.seed)
        print(summary(evaluate_policies(*where, world=self.world, workers=self.workers, ray=self.ray)))


class Imagine(Command):
    """Make demonstrations in a world: a policy's successes there, as a dataset."""

    name = "imagine"
    example = "wm-gym imagine Push-v0 --policy ppo-Push-v0 --idm idm/push --out data/imagined"

    world: Annotated[str, "WORLD"] = positional(help=WORLD_HELP)
    policy: str
    """An agent or planner (folder, or the name of a shipped one), random, no-op, or directive:NUMBERS, one action that
    is repeated."""
    out: Annotated[str, "DIR"]
    "The LeRobotDataset v3.0 folder to write."
    episodes: Count = 100
    "Episodes that are imagined; those that do not pass are left out."
    options: ImagineOptions = part("progress", labeller="idm")

    def run(self) -> None:
        from collections import Counter

        from wm_gym.collect.imagine import imagine

        kept, rejected = imagine(self.world, self.policy, self.out, self.episodes, self.options)
        for why, count in Counter(rejected.values()).most_common(10):
            print(f"{count} left out: {why}")
        print(
            f"imagined: {kept} of {self.episodes} episodes, in {self.out}\nnext: wm-gym agent clone REAL {self.out} "
            "--env ENV_ID --out AGENT"
            if kept
            else "nothing is written: no episode passes"
        )


class Demo(Command):
    """Train a policy inside the shipped Reach world, check it in physics, write a report."""

    name = "demo"
    example = "wm-gym demo"

    out: Annotated[str, "DIR"] = "outputs/demo"
    "Folder of the agent and the report."
    options: DemoOptions = part("algo", "timesteps", env_id="env")

    def run(self) -> None:
        from wm_gym.rl.demo import demo

        demo(self.out, self.options)


COMMANDS = (Learn, AgentTrain, AgentClone, AgentPlan, Imagine, AgentEvaluate, EvaluatePolicies, Demo)
