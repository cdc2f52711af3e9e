"""Which options does training an agent take, alone, in turns with its world, and in the demo?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from wm_gym.common.options import Count, File, FrameSize, Json, Overrides

if TYPE_CHECKING:
    from pathlib import Path

    from stable_baselines3.common.callbacks import BaseCallback


@dataclass(frozen=True)
class AgentOptions:
    """How a policy is trained in an environment (`train_agent`)."""

    timesteps: Count | None = None
    "Environment steps in all (default: the recipe's)."
    max_minutes: Annotated[float, "M"] | None = None
    "End the training by then."
    seed: int = 0
    "Draws the first weights, the environments' starts and the exploration."
    env_kwargs: Json | None = None
    'Keyword arguments for the environment, e.g. \'{"world": "my-world"}\'.'
    recipe_file: File | None = None
    "YAML in rl_zoo3's keys (default: wm_gym/policies/recipes/ALGO.yml)."
    init: Annotated[str | Path, "AGENT"] | None = None
    "Go on from the policy of this agent."
    device: str = "auto"
    "Where the policy learns: auto, cpu or cuda."
    resume: bool = False
    "Go on from the last checkpoint, from the beginning where there is none."
    overwrite: bool = False
    "Start anew where the agent or its training is there."
    recipe: dict[str, Any] | None = None
    "Keys that replace some of the recipe's entry."
    recipe_id: str | None = None
    "Whose entry of the recipe file it is (default: the environment's)."
    checkpoint_every: Count = 20_000
    "Environment steps between two checkpoints."
    callback: BaseCallback | None = None
    "One more callback of Stable-Baselines3."
    progress: bool = True
    "Show a progress bar."


@dataclass(frozen=True)
class ImproveOptions:
    """How agent and world are improved in turns (`improve`)."""

    rounds: Count = 2
    "Agents trained; the world is finetuned between them."
    twin_id: Annotated[str, "ENV_ID"] | None = None
    "The environment that it was learned from, a physics twin or any other (default: the one that the world names)."
    algo: str = "ppo"
    "The algorithm: ppo, sac or dqn."
    timesteps: Count | None = None
    "Environment steps of the first agent (default: the recipe's)."
    more_timesteps: Count | None = None
    "Environment steps of each later agent, which goes on from the one before (default: as many)."
    recipe_file: File | None = None
    "YAML in rl_zoo3's keys (default: wm_gym/policies/recipes/ALGO.yml)."
    episodes: Count = 200
    "Episodes recorded in that environment each round."
    evaluations: Count = 100
    "Matched starts of each round's measurement."
    overrides: Overrides | None = None
    "Fields of the finetune preset to change, e.g. dynamics_updates=2000."
    seed: int = 0
    "Round r's agent and world are trained with seed + r."
    preset: str | None = None
    "The preset that the world is trained with (default: finetune, or state for a world without pictures)."
    progress: bool = True
    "Show progress bars."


@dataclass(frozen=True)
class LearnOptions:
    """How an environment is learned (`learn`)."""

    rounds: Count = 3
    "Worlds and agents that are trained, each on what the agent before did."
    algo: str | None = None
    "The algorithm: ppo, sac or dqn (default: sac for boxes of actions, ppo for others)."
    timesteps: Count | None = None
    "Imagined steps of each agent (default: the recipe's)."
    imagined_steps: Count = 100
    "Steps after which an imagined episode is cut off; it begins anywhere in the recordings."
    minutes: Annotated[float | None, "M"] = None
    "No round begins that would, if it took as long as the one before, end later (default: all rounds)."
    evaluations: Count = 100
    "Episodes of the best agent's measurement in the environment."
    env_kwargs: Json | None = None
    "Keyword arguments for gym.make."
    size: FrameSize | None = None
    "Height and width that frames are resized to, on a command line as 64 or 96x160 (default: as they are)."
    preset: str = "state"
    "The preset that worlds are trained with."
    overrides: Overrides | None = None
    "Fields of the preset to change, e.g. pose_updates=5000."
    seed: int = 0
    "Draws everything."
    progress: bool = True
    "Show progress bars."


@dataclass(frozen=True)
class DemoOptions:
    """What the demo trains, and how long (`demo`)."""

    env_id: Annotated[str, "ENV_ID"] = "wm_gym/Reach-v0"
    "A shipped world with a physics twin."
    minutes: Annotated[float, "M"] = 6.0
    "The training ends by then."
    episodes: Count = 100
    "Matched starts of the evaluation."
    seed: int = 0
    "Seed of the training and of the starts."
    algo: str = "ppo"
    "The algorithm: ppo, sac or dqn."
    timesteps: Count = 120_000
    "Environment steps, unless the time is over before."
