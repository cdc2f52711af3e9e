"""Do Gymnasium's and Stable-Baselines3's checkers pass without a warning, and do PPO, SAC and DQN run unchanged?

python benchmarks/checkers.py
"""

from __future__ import annotations

import warnings

import gymnasium as gym
from common import Bar, command, write_results
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_checker import check_env as sb3_check

from wm_gym.common.registry import env_ids
from wm_gym.wrappers import DiscreteActions

SHORT = {
    "PPO": {"n_steps": 32, "batch_size": 32, "n_epochs": 1},
    "SAC": {"buffer_size": 500, "learning_starts": 32, "batch_size": 16},
    "DQN": {"buffer_size": 500, "learning_starts": 32, "batch_size": 16},
}
CHECKS = ("gymnasium.check_env", "stable_baselines3.check_env", "PPO", "SAC", "DQN")


def ids_of(found: dict) -> list[dict]:
    """A row an environment's id."""
    return [row for name, row in found.items() if name.startswith("wm_gym/")]


BARS = {
    "checkers": [
        Bar(
            "ids that lack a checker or an algorithm",
            lambda found: sum(not row.keys() >= {*CHECKS} for row in ids_of(found)),
            most=0,
        ),
        Bar(
            "ids that passed both checkers without a warning and ran PPO, SAC and DQN",
            lambda found: len(ids_of(found)),
            least=7,
        ),
    ]
}


def make(env_id: str, **kwargs) -> gym.Env:
    if env_id == "wm_gym/World-v0":
        kwargs["world"] = "wm_gym/Reach-v0"
    return gym.make(env_id, **kwargs)


def main() -> None:
    command(__doc__, BARS).parse_args()
    numbers = {}
    for env_id in env_ids():
        row = numbers[env_id] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env = make(env_id, render_mode="rgb_array")
            gymnasium_check(env.unwrapped)
            row["gymnasium.check_env"] = "passes without a warning"
            env = make(env_id)
            sb3_check(env)
            row["stable_baselines3.check_env"] = "passes without a warning"
            env.close()
        for algorithm in (PPO, SAC, DQN):
            env = make(env_id)
            env = DiscreteActions(env) if algorithm is DQN else env
            algorithm("CnnPolicy", env, **SHORT[algorithm.__name__]).learn(64)
            row[algorithm.__name__] = "64 steps with CnnPolicy"
            env.close()
    write_results("checkers", numbers)


if __name__ == "__main__":
    main()
