"""How is a policy trained in an environment? Stable-Baselines3 with a recipe, resumable after a kill."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from wm_gym.common.files import clear, locked, write_text
from wm_gym.common.options import with_changes
from wm_gym.common.registry import find_spec
from wm_gym.judges import Judge, JudgeError
from wm_gym.policies.agent import Agent
from wm_gym.policies.config import CONFIG_FILE
from wm_gym.policies.folder import save_agent
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.recipe import ENV_KEYS, algorithm, env_wrapper, load_recipe, sb3_arguments
from wm_gym.registration import is_learned
from wm_gym.rl.callbacks import CURVE_FILE, Checkpoints, Progress, TimeLimit, read_curve
from wm_gym.rl.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from wm_gym.rl.options import AgentOptions
from wm_gym.rl.physics_check import CHECKS_FILE, PhysicsCheck, read_checks
from wm_gym.sb3 import make_sb3_env
from wm_gym.worlds.world import digest_of_world

RUN_FILE = "run.yml"
SAME_RUN = ("algo", "env_id", "env_kwargs", "seed", "init", "world_weights")


@dataclass(frozen=True)
class _Plan:
    """What one call trains."""

    asked: dict[str, Any]
    """What run.yml holds, and a resumed run is held against."""
    recipe: dict[str, Any]
    total: int
    """Environment steps at the end."""
    checkpoint: Path | None
    before: Agent | None
    """Whose policy the training begins with."""


def train_agent(algo: str, env_id: str, out: str | Path, options: AgentOptions | None = None, **changes: Any) -> Path:
    """Train a policy in an environment with Stable-Baselines3.

    Checkpoints, the learning curve (curve.csv), monitor files and TensorBoard's events lie in `<out>.training`, into
    which one process at a time trains.

    Args:
        algo: "ppo", "sac" or "dqn".
        env_id: The id of a registered environment, learned or not.
        out: The agent folder to write.
        options: `AgentOptions`; None for the defaults.
        **changes: Some of its fields, e.g. timesteps=100_000, seed=1.

    Returns:
        The agent folder.

    Raises:
        FileExistsError: Where `out` or its training is there, and neither resume nor overwrite says what to do.
        ValueError: Where a resumed run was of another algorithm, environment, seed, init or recipe file's entry, where
            init's policy is another, or where another process is training there.
        JudgeError: Where the judge of the reward failed (see `reward` of WorldEnv); a checkpoint is kept.
    """
    options = with_changes(AgentOptions, options, changes)
    find_spec(env_id)  # an unknown id must fail before anything is written
    with locked(_run_folder(Path(out)), "is training in"):
        return _train(algo, env_id, Path(out), options)


def _train(algo: str, env_id: str, out: Path, options: AgentOptions) -> Path:
    run = _run_folder(out)
    _prepare(out, run, options.resume, options.overwrite)
    plan = _planned(algo, env_id, out, options)
    noted = {**plan.asked, "n_timesteps": plan.total, "recipe": plan.recipe}
    write_text(run / RUN_FILE, yaml.safe_dump(noted, sort_keys=False))
    steps = int(plan.checkpoint.name.split("-")[1]) if plan.checkpoint else 0
    monitor = run / f"{steps:09d}.monitor.csv"
    env = _make_env(env_id, plan.recipe, options.seed, plan.asked["env_kwargs"], monitor)
    try:
        arguments = sb3_arguments(algo, plan.recipe, env.observation_space)
        model = _begin(plan, env, arguments, options)
        identity = _learn(model, plan, _identity(plan.asked, plan.recipe, arguments), run, options)
    except KeyboardInterrupt:
        last = latest_checkpoint(run)
        print("\ninterrupted; " + (f"{last} is the last checkpoint" if last else "no checkpoint yet"), file=sys.stderr)
        raise
    finally:
        env.close()
    return save_agent(model, out, identity | {"total_timesteps": plan.total} | _history(plan.recipe, model, run))


def _planned(algo: str, env_id: str, out: Path, options: AgentOptions) -> _Plan:
    """What is to be trained, held against the run that it goes on with."""
    recipe = {**load_recipe(algo, options.recipe_id or env_id, options.recipe_file), **(options.recipe or {})}
    env_kwargs = {**(recipe.get("env_kwargs") or {}), **(options.env_kwargs or {})}
    if isinstance(env_kwargs.get("reward"), Judge):
        raise ValueError(
            f"reward is a {type(env_kwargs['reward']).__name__}, which an agent's files cannot hold; name "
            "the judge, e.g. reward='goal:goal.png', after an entry of your own in wm_gym.judges.JUDGES"
        )
    checkpoint, timesteps = latest_checkpoint(_run_folder(out)), options.timesteps
    before = load_agent(options.init) if options.init and not checkpoint else None
    if before and not isinstance(before.policy, BasePolicy):
        raise ValueError(f"{before.name} has no weights to go on from; give an agent of wm-gym agent train or clone")
    seen = before.config["n_timesteps"] + before.config.get("n_timesteps_before", 0) if before else 0
    asked = {
        "algo": algo,
        "env_id": env_id,
        "env_kwargs": env_kwargs,
        "seed": options.seed,
        "init": str(options.init) if options.init else None,
        "n_timesteps_before": seen,
        "world_weights": _world_weights(env_id, env_kwargs),
    }
    if checkpoint:
        stored = yaml.safe_load((_run_folder(out) / RUN_FILE).read_text())
        _check_same(asked, stored, out)
        if options.recipe_file and recipe != stored["recipe"]:
            raise ValueError(
                f"the training at {out} was begun with another recipe than {options.recipe_file} gives now; leave "
                "the recipe out to go on with its own, or train to another --out"
            )
        asked["n_timesteps_before"] = stored.get("n_timesteps_before", 0)
        recipe, timesteps = stored["recipe"], timesteps or stored["n_timesteps"]
    return _Plan(asked, recipe, int(timesteps or recipe["n_timesteps"]), checkpoint, before)


def _begin(plan: _Plan, env: VecEnv, arguments: dict[str, Any], options: AgentOptions) -> BaseAlgorithm:
    """The model as its last checkpoint has it, or a new one."""
    kind = algorithm(plan.asked["algo"])
    if plan.checkpoint:
        model = load_checkpoint(kind, plan.checkpoint, env, options.device, options.seed)
        print(f"resumed at {model.num_timesteps:,} of {plan.total:,} steps", file=sys.stderr)
        return model
    model = kind(env=env, seed=options.seed, device=options.device, **arguments)
    if plan.before:
        _take_policy(model, plan.before)
    return model


def _learn(
    model: BaseAlgorithm, plan: _Plan, identity: dict[str, Any], run: Path, options: AgentOptions
) -> dict[str, Any]:
    """Train to the end; returns `identity`, with the step whose policy is kept where physics was checked."""
    model.set_logger(configure(str(run / "tensorboard"), ["tensorboard"]))
    checkpoints = Checkpoints(run, options.checkpoint_every)
    check = PhysicsCheck(run, identity, **plan.recipe["physics_check"]) if plan.recipe.get("physics_check") else None
    limit = TimeLimit(options.max_minutes) if options.max_minutes else None
    progress = Progress(run, plan.total, every=_log_interval(model), bar=options.progress)
    callbacks = [one for one in (progress, checkpoints, check, limit, options.callback) if one is not None]
    if model.num_timesteps < plan.total:
        left, rows = plan.total - model.num_timesteps, _log_interval(model, rows=True)
        try:
            model.learn(left, callbacks, log_interval=rows, reset_num_timesteps=False)
        except JudgeError as error:
            last = checkpoints.rescue(model)
            raise JudgeError(
                f"{error}\nthe training stopped and kept {last or 'nothing: it had not begun'}; once the "
                "judge works again, the same command with --resume goes on from there"
            ) from error
        save_checkpoint(model, run)
        if check and check.parted:
            print(
                f"\nended at {model.num_timesteps:,} steps: what is imagined has parted from what is found outside "
                f"({check.path})",
                file=sys.stderr,
            )
    if check:
        identity["kept_step"] = check.take_best(model)
        print(f"\nkept the policy of step {identity['kept_step']:,}, the best outside", file=sys.stderr)
    return identity


def _run_folder(out: Path) -> Path:
    return out.with_name(out.name + ".training")


def _prepare(out: Path, run: Path, resume: bool, overwrite: bool) -> None:
    """Refuse, keep or clear what lies at the destination."""
    if out.exists() and not (out / CONFIG_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there and is no agent folder; choose another --out")
    if resume or not (out.exists() or latest_checkpoint(run)):
        return
    if not overwrite:
        raise FileExistsError(f"{out} or its training {run} is there; pass --resume to go on, or choose another --out")
    clear(run)  # the agent at `out` stays until the new one takes its place


def _world_weights(env_id: str, env_kwargs: dict[str, Any]) -> str | None:
    """The digest of the learned world that is trained in; None for other environments."""
    spec = find_spec(env_id)
    world = env_kwargs.get("world", spec.kwargs.get("world"))
    return digest_of_world(world) if is_learned(spec) and isinstance(world, (str, Path)) else None


def _check_same(plan: dict, stored: dict, out: Path) -> None:
    stored = {"world_weights": plan["world_weights"]} | stored  # older versions did not write it down
    for key in SAME_RUN:
        if plan[key] != stored.get(key):
            raise ValueError(
                f"the training at {out} was begun with {key}={stored.get(key)!r}, not {plan[key]!r}; "
                "give the same, or train to another --out"
            )


def _take_policy(model: BaseAlgorithm, agent: Agent) -> None:
    """Begin with the weights of an agent; ValueError where its policy is of another shape."""
    assert isinstance(agent.policy, BasePolicy)  # as `_planned` has seen
    try:
        model.policy.load_state_dict(agent.policy.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"the policy of {agent.folder} does not fit this training ({str(error).splitlines()[0]}); "
            "use the algorithm, observation and recipe it was trained with"
        ) from error


def _make_env(env_id: str, recipe: dict, seed: int, env_kwargs: dict, monitor_file: Path) -> VecEnv:
    """The recipe's number of environments with its wrappers."""
    env: VecEnv = make_sb3_env(
        env_id,
        int(recipe.get("n_envs", 1)),
        seed,
        wrapper_class=env_wrapper(recipe.get("env_wrapper")),
        monitor_file=monitor_file,
        **env_kwargs,
    )
    if int(recipe.get("frame_stack") or 1) > 1:
        env = VecFrameStack(env, int(recipe["frame_stack"]))
    if normalize := recipe.get("normalize"):
        options = dict(normalize) if isinstance(normalize, dict) else {}
        if options.pop("norm_obs", False):
            raise ValueError("normalize: norm_obs is not kept in an agent folder; write normalize: {norm_obs: false}")
        env = VecNormalize(env, norm_obs=False, gamma=recipe.get("gamma", 0.99), **options)
    return env


def _log_interval(model: BaseAlgorithm, rows: bool = False) -> int:
    """Steps between two rows of the curve; with rows=True SB3's own unit (updates, or episodes off policy)."""
    if isinstance(model, OnPolicyAlgorithm):
        return 1 if rows else model.n_envs * model.n_steps
    return 10 if rows else 500


def _identity(plan: dict, recipe: dict, arguments: dict) -> dict[str, Any]:
    """What config.yml says from the first step on: what is trained where, and how it looks at its environment."""
    return {
        "algo": plan["algo"],
        "policy": arguments["policy"],
        "env_id": plan["env_id"],
        "env_kwargs": plan["env_kwargs"],
        "learned": is_learned(find_spec(plan["env_id"])),
        "env_wrapper": recipe.get("env_wrapper"),
        "frame_stack": int(recipe.get("frame_stack") or 1),
        "seed": plan["seed"],
        "init": plan["init"],
        "n_timesteps_before": plan["n_timesteps_before"],
    }


def _history(recipe: dict, model: BaseAlgorithm, run: Path) -> dict[str, Any]:
    """How the training went."""
    curve, checks = read_curve(run / CURVE_FILE), read_checks(run / CHECKS_FILE)
    plain = {k: v for k, v in recipe.items() if k not in ENV_KEYS}
    return {
        "n_timesteps": int(model.num_timesteps),
        "training_seconds": round(curve[-1]["seconds"], 1) if curve else None,
        "update_seconds": round(curve[-1]["update_seconds"], 1) if curve else None,
        "training_success_rate": curve[-1]["success_rate"] if curve else None,
        "physics_check_steps": int(checks[-1]["physics_steps"]) if checks else 0,
        "hyperparameters": plain,
        "n_envs": int(recipe.get("n_envs", 1)),
    }
