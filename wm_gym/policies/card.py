"""What does an agent's card say? README.md with Hub metadata, the measured numbers and how to use it."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from wm_gym.common.files import write_text
from wm_gym.common.reading import read_mapping
from wm_gym.policies.agent import without_episode_shape
from wm_gym.policies.config import CONFIG_FILE, PLANNER, PLANNER_OPTIONS
from wm_gym.registration import is_twin

RESULTS_FILE, CARD_FILE = "results.json", "README.md"


def write_card(folder: str | Path) -> Path:
    """Write README.md of an agent folder from its config.yml and, where it was evaluated, results.json."""
    folder = Path(folder)
    config = read_mapping(folder / CONFIG_FILE, finite=False)
    results = read_mapping(folder / RESULTS_FILE, finite=False) if (folder / RESULTS_FILE).is_file() else None
    path = folder / CARD_FILE
    write_text(path, card_text(folder.name, config, results))
    return path


def card_text(name: str, config: dict[str, Any], results: dict[str, Any] | None) -> str:
    """The card as Markdown; says "not measured" where nothing was."""
    if config["algo"] == PLANNER:
        return _planner_text(name, config, results)
    front = yaml.safe_dump(_metadata(config, results), sort_keys=False).strip()
    env_id, algo = config["env_id"], config["algo"].upper()
    versions = ", ".join(f"{k.replace('_', '-')} {v}" for k, v in config["trained_with"].items() if k != "date")
    cloned = config.get("cloned_from")
    how, command, length = _cloned(config, cloned) if cloned else _trained(config)
    at_a_time = f"; {config['n_envs']} environments at a time" if "n_envs" in config and not cloned else ""
    seed = f" --seed {config['seed']}" if "seed" in config else ""
    is_dict = config["observation_space"]["type"] == "Dict"
    batched = "          # a dict of arrays with a leading batch axis" if is_dict else ""
    init = f" --init {quote(config['init'])}" if config.get("init") else ""
    hyperparameters = yaml.safe_dump(
        {**config.get("hyperparameters", {}), "policy": config["policy"], "policy_kwargs": config["policy_kwargs"]},
        sort_keys=False,
    ).strip()
    return f"""---
{front}
---

# {one_line(name)}

A **{algo}** policy of Stable-Baselines3, {how}.

## Measured

{_measured(results, name, env_id)}

## Use

```python
import gymnasium as gym, wm_gym
from wm_gym.policies.loaders import load_agent

agent = load_agent({json.dumps(name)})               # safetensors and YAML: nothing is unpickled
env = gym.make({json.dumps(env_id)}{_kwargs(config)})
observation, info = env.reset(seed=0)
action = agent.act(observation[None])[0]{batched}
```

## Training

```
wm-gym agent {command} --env {quote(env_id)}{_env_kwargs(config)}{seed}{init}{length} \
--out {quote(name)}
```

Trained {config["trained_with"].get("date", "")} with {versions}{at_a_time}.

```yaml
{hyperparameters}
```
"""


def _trained(config: dict[str, Any]) -> tuple[str, str, str]:
    """How a policy was trained, the command's words for it, and the flag of its length."""
    where = "the learned world" if config.get("learned") else "the environment"
    seconds, updates = config.get("training_seconds"), config.get("update_seconds")
    steps = f"{config['n_timesteps']:,} steps" if "n_timesteps" in config else "a number of steps that it does not say"
    steps += f" in {seconds / 60:.1f} minutes" if seconds else ""
    steps += f" ({updates / 60:.1f} of them {config['algo'].upper()}'s updates)" if updates else ""
    if config.get("init"):
        steps += f", going on from `{one_line(config['init'])}` ({config['n_timesteps_before']:,} steps)"
    how = f"trained in {where} `{config['env_id']}`: {steps}{_reached(config.get('training_success_rate'))}"
    if step := config.get("kept_step"):
        how += f"; kept is the policy of step {step:,}, the best outside"
    asked = config.get("total_timesteps")
    return how, f"train {config['algo']}", f" --timesteps {asked}" if asked else ""


def _cloned(config: dict[str, Any], made: dict[str, Any]) -> tuple[str, str, str]:
    """The same of a policy that was cloned."""
    how = (
        f"cloned for `{config['env_id']}` from {made['episodes']:,} episodes of `{made['dataset']}`: "
        f"{made['updates']:,} updates, squared error of held-out actions {made['held_out_squared_error']}"
    )
    seen = f" --views {quote(made['views'])}" if "views" in made else ""
    named = " ".join(map(quote, made["dataset"].split(" + ")))
    return how, f"clone {named}{seen}", f" --updates {made['updates']}"


def one_line(name: str) -> str:
    """A name as a heading: whatever is in it, it ends with its line."""
    return " ".join(name.split())


def _planner_text(name: str, config: dict[str, Any], results: dict[str, Any] | None) -> str:
    """The card of an agent that plans."""
    front = yaml.safe_dump(_metadata(config, results, "wm-gym"), sort_keys=False).strip()
    search, world = config["search"], f"`{config['env_id']}`{_kwargs(config)}"
    return f"""---
{front}
---

# {one_line(name)}

Plans in the learned world {world}, from pictures alone: {search["method"].upper()}, {search["candidates"]} sequences of
{search["horizon"]} actions, {search["iterations"]} times, anew after {config["replan_every"]} steps. No weights of its
own.

## Measured

{_measured(results, name, config["env_id"])}

```yaml
{yaml.safe_dump({key: config[key] for key in ("search", *PLANNER_OPTIONS)}, sort_keys=False).strip()}
```
"""


def _metadata(
    config: dict[str, Any], results: dict[str, Any] | None, library: str = "stable-baselines3"
) -> dict[str, Any]:
    """Front matter as the Hub reads it for models of a library, first of all Stable-Baselines3."""
    tags = [
        config["env_id"],
        *(["deep-reinforcement-learning"] if library == "stable-baselines3" else []),
        "reinforcement-learning",
        *dict.fromkeys([library, "world-model", "wm-gym"]),
    ]
    metadata: dict[str, Any] = {"library_name": library, "tags": tags}
    rows = []
    if results and "world_name" in results:
        sides = ((results["twin_id"], "physics"), (results["world_name"], "world"))
        rows = [_result(env, results[side]) for env, side in sides if side in results]
        rows += [_earned(env, results["returns"][side]) for env, side in sides if not rows]
    elif results:
        rows = [_result(results["env"], results["success"])] if results.get("success") else []
        rows += [] if rows else [_earned(results["env"], results["reward"])]
    if rows:
        metadata["model-index"] = [{"name": config["algo"].upper(), "results": rows}]
    return metadata


def _result(env: str, rate: dict[str, Any]) -> dict[str, Any]:
    return _metric(env, "success_rate", "success rate", round(rate["rate"], 4))


def _earned(env: str, returns: dict[str, Any]) -> dict[str, Any]:
    return _metric(env, "mean_reward", "mean return", round(returns["mean"], 4))


def _metric(env: str, kind: str, name: str, value: float) -> dict[str, Any]:
    return {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": env, "type": env},
        "metrics": [{"type": kind, "name": name, "verified": False, "value": value}],
    }


def _measured(results: dict[str, Any] | None, name: str, env_id: str) -> str:
    if results is None:
        return f"Not measured. `wm-gym agent evaluate {quote(name)} --env {quote(env_id)} --episodes 400` does it."
    if "world_name" not in results:
        rows = [("success", percent(results["success"]))] if results["success"] else []
        rows += [
            ("reward an episode", f"{results['reward']['mean']:.2f} ± {results['reward']['std']:.2f}"),
            ("steps an episode", f"{results['steps']['mean']:.1f}"),
        ]
        return f"`{results['env']}`, {results['episodes']} episodes, seed {results['seed']}.\n\n" + _rows(rows)
    where = "physics" if is_twin(results["twin_id"]) else "environment"
    kind = "physics twin" if where == "physics" else "environment"
    text = f"""The same policy from the same {results["episodes"]} starts (seed {results["seed"]}) in the learned world
`{results["world_name"]}` and in its {kind} `{results["twin_id"]}`, {results["horizon"]} steps at most,
{"deterministic" if results["deterministic"] else "stochastic"} actions. 95 % intervals in brackets.

{_rows(matched_rows(results))}"""
    if "table" not in results:
        return text
    table, points = results["table"], results["world_minus_physics"]
    return f"""{text}

| | {where}: success | {where}: failure |
|---|---|---|
| **world: success** | {table["both"]} | {table["world_only"]} |
| **world: failure** | {table["physics_only"]} | {table["neither"]} |

Rates: Wilson's interval. Difference: {points["method"]}; McNemar's exact p = {points["mcnemar_exact_p"]:.3g}."""


def matched_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, number with interval) of a matched evaluation, for the card and the report: success, else returns."""
    where = "physics" if is_twin(results["twin_id"]) else results["twin_id"]
    rows = [(f"success in {where}", percent(results["physics"]))] if "physics" in results else []
    if "table" in results:
        points = results["world_minus_physics"]
        rows += [
            ("success in the learned world", percent(results["world"])),
            (
                f"world minus {where}",
                f"{100 * points['difference']:+.1f} points [{100 * points['low']:+.1f}, {100 * points['high']:+.1f}]",
            ),
            (f"optimism: world says success where {where} fails", percent(results["optimism"])),
            (f"pessimism: world says failure where {where} succeeds", percent(results["pessimism"])),
        ]
        rows += [(f"{name} policy in {where}", percent(rate)) for name, rate in results["baselines"].items()]
    else:
        returns = results["returns"]
        rows += [
            (f"return in {where}", returned(returns["physics"])),
            ("return in the learned world", returned(returns["world"])),
            (f"return, world minus {where}", returned(returns["world_minus_physics"], sign="+")),
        ]
        rows += [(f"{name} policy in {where}", returned(one)) for name, one in results["baseline_returns"].items()]
    for side, at in (("physics", where), ("world", "the learned world")):
        steps = results[f"{side}_steps"]["mean_of_successes"]
        rows += [(f"steps to success in {at}", f"{steps:.1f}")] if steps else []
    return rows


def returned(one: dict[str, Any], sign: str = "") -> str:
    """A mean return with its interval, e.g. 475.20 [460.11, 490.29]."""
    between = "" if one["low"] is None else f" [{one['low']:{sign}.2f}, {one['high']:{sign}.2f}]"
    return f"{one['mean']:{sign}.2f}{between}"


def percent(rate: dict[str, Any]) -> str:
    """A rate with its interval and counts, e.g. 97.2 % [95.1, 98.5] (389/400)."""
    if not rate["n"]:
        return "no such episode"
    low, middle, high = (f"{100 * rate[key]:.1f}" for key in ("low", "rate", "high"))
    return f"{middle} % [{low}, {high}] ({rate['successes']}/{rate['n']})"


def _rows(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {number} |" for what, number in rows)])


def _reached(rate: float | None) -> str:
    known = rate is not None and rate == rate  # NaN where no episode ended
    return f", success there at the end {rate:.0%} (exploring, last 100 episodes)" if known else ""


def _env_kwargs(config: dict[str, Any]) -> str:
    kwargs = without_episode_shape(config.get("env_kwargs") or {})
    return f" --env-kwargs {quote(json.dumps(kwargs))}" if kwargs else ""


def _kwargs(config: dict[str, Any]) -> str:
    return "".join(f", {k}={v!r}" for k, v in without_episode_shape(config.get("env_kwargs") or {}).items())
