"""Does the command line say what it does, do it, and say what is wrong in one line?"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import pytest
from short import flags, short

from wm_gym.cli import COMMANDS, build_parser, main, mendable
from wm_gym.cli.command import add_options, options_of
from wm_gym.policies.options import MatchedOptions
from wm_gym.policies.planning import Search
from wm_gym.rl.options import AgentOptions, ImproveOptions
from wm_gym.training.options import TrainOptions


def outcome(capsys, *words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command, run in this process."""
    try:
        status = main(list(words))
    except SystemExit as leaving:
        status = leaving.code
    said = capsys.readouterr()
    return status, said.out, said.err


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_help_says_what_it_does_and_gives_an_example_that_parses(command, capsys):
    status, out, _ = outcome(capsys, *command.name.split(), "--help")
    assert status == 0
    assert command.help.split()[0] in out and "example: wm-gym" in out
    args = build_parser().parse_args(shlex.split(command.example)[1:])
    assert args.command is command


def test_help_loads_nothing_heavy(repository, tmp_path):
    code = (
        "import sys; from wm_gym.cli import build_parser; build_parser().format_help(); "
        "print([m for m in ('torch', 'pybullet', 'diffusers', 'pandas', 'stable_baselines3') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("words", [[], ["agent"], ["nonsense"], ["record"]])
def test_incomplete_commands_show_the_usage(words, capsys):
    status, _, err = outcome(capsys, *words)
    assert status == 2 and err.startswith("usage: wm-gym")


@pytest.mark.parametrize(
    "words, named",
    [
        (["train", "data", "--out", "world", "--size", "64x"], "'64x'"),
        (["train", "data", "--out", "world", "--size", "1x2x3"], "'1x2x3'"),
        (["train", "data", "--out", "world", "--preset", "huge"], "'huge'"),
        (["train", "data", "--out", "world", "--set", "updates=3"], "'updates=3'"),
        (["train", "data", "--out", "world", "--set", "starts=many"], "'starts=many'"),
        (["record", "some/Env-v0", "--out", "data", "--episodes", "0"], "'0'"),
        (["record", "some/Env-v0", "--out", "data", "--episodes", "many"], "'many'"),
        (["record", "some/Env-v0", "--out", "data", "--episodes", "1", "--policy", "clever"], "'clever'"),
        (["record", "some/Env-v0", "--out", "data", "--episodes", "1", "--env-kwargs", "{size:1}"], "'{size:1}'"),
        (["record", "some/Env-v0", "--out", "data", "--episodes", "1", "--env-kwargs", "[1]"], "'[1]'"),
    ],
)
def test_bad_values_are_named_with_what_was_expected(words, named, capsys):
    status, _, err = outcome(capsys, *words)
    assert status == 2 and named in err.splitlines()[-1]


def test_sizes_fields_and_keyword_arguments_are_read():
    parse = build_parser().parse_args
    args = parse(["train", "data", "--out", "w", "--set", "starts=7", "--set", "rollout_lengths=[2,4]"])
    assert options_of(TrainOptions, args).overrides == {"starts": 7, "rollout_lengths": (2, 4)}
    assert parse(["train", "data", "--out", "w", "--size", "96"]).size == (96, 96)
    assert parse(["train", "data", "--out", "w", "--size", "96x160"]).size == (96, 160)
    args = parse(["record", "some/Env-v0", "--out", "d", "--episodes", "1_000", "--env-kwargs", '{"size": 96}'])
    assert args.episodes == 1000 and args.env_kwargs == {"size": 96}


def test_an_option_dataclass_makes_the_flags_of_its_command():
    parser, leave_out = argparse.ArgumentParser(), ("recipe", "callback")
    add_options(parser, AgentOptions, leave_out, recipe_file="recipe")
    said = " ".join(parser.format_help().split())
    assert "--timesteps N environment steps in all (default: the recipe's)" in said
    assert "--device DEVICE where the policy learns: auto, cpu or cuda (default: auto)" in said
    assert options_of(AgentOptions, parser.parse_args([])) == AgentOptions()
    typed = ["--timesteps", "1_000", "--env-kwargs", '{"size": 96}', "--recipe", "my.yml", "--resume", "--no-progress"]
    wanted = AgentOptions(timesteps=1000, env_kwargs={"size": 96}, recipe_file="my.yml", resume=True, progress=False)
    assert options_of(AgentOptions, parser.parse_args(typed)) == wanted
    assert options_of(AgentOptions, parser.parse_args(["--seed", "1"]), seed=2).seed == 2, "what is given wins"
    with pytest.raises(TypeError, match="leave the field out"):
        add_options(argparse.ArgumentParser(), AgentOptions)


@dataclass(frozen=True)
class Several:
    agents: Annotated[tuple[str, ...], "AGENT"] = ()
    "Agents to measure."
    filters: Sequence[Annotated[str, "FILE"]] = ()
    """Lists that leave some out.

    A second paragraph is no part of the help."""
    resume: bool = True
    "Go on with what is there."


def test_overrides_choices_and_repeated_flags_are_read():
    parser = argparse.ArgumentParser()
    add_options(parser, ImproveOptions, overrides="set")
    args = parser.parse_args(["--set", "starts=7", "--set", "rollout_lengths=[2,4]"])
    assert options_of(ImproveOptions, args).overrides == {"starts": 7, "rollout_lengths": (2, 4)}
    add_options(parser, MatchedOptions, ("progress",))
    args = parser.parse_args(["--baselines", "random", "--baselines", "no-op", "--no-deterministic"])
    assert options_of(MatchedOptions, args, workers=0) == MatchedOptions(deterministic=False, workers=0)
    add_options(parser, Several)
    typed = ["--agents", "a", "b", "--filters", "c", "--filters", "d", "--no-resume"]
    assert options_of(Several, parser.parse_args(typed)) == Several(("a", "b"), ("c", "d"), False)
    said = " ".join(parser.format_help().split())
    assert "--filters FILE lists that leave some out; may be repeated --no-resume do not go on with" in said
    add_options(parser, Search, ("horizon",))
    assert options_of(Search, parser.parse_args(["--method", "mppi"])) == Search("mppi")


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "words, named",
    [
        (["record", "wm_gym/Nowhere-v0", "--episodes", "1", "--out", "data"], "wm_gym/Nowhere-v0"),
        (["train", "no-such-dataset", "--out", "world"], "no-such-dataset"),
        (["agent", "train", "ppo", "--env", "wm_gym/Nowhere-v0", "--out", "agent"], "wm_gym/Nowhere-v0"),
        (["agent", "train", "a2c", "--env", "wm_gym/ReachPyBullet-v0", "--out", "agent"], "'a2c'"),
        (["agent", "train", "ppo", "--env", "wm_gym/ReachPyBullet-v0", "--out", "a", "--recipe", "no.yml"], "no.yml"),
        (
            ["agent", "evaluate", "no-such-agent", "--env", "wm_gym/ReachPyBullet-v0", "--episodes", "1"],
            "no-such-agent",
        ),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_mendable_errors_are_one_line_and_exit_2(words, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = outcome(capsys, *words)
    assert status == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ") and named in last and "Traceback" not in err
    assert not list(tmp_path.iterdir()), "a command that failed at once left something behind"


def test_debug_shows_the_trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OSError, ValueError)):
        main(["train", "no-such-dataset", "--out", "world", "--debug"])


def test_a_bug_keeps_its_trace():
    assert mendable(FileNotFoundError("no dataset")) and mendable(ValueError("bad action"))
    assert mendable(ModuleNotFoundError("install it", name="gym_pusht"))
    assert not mendable(ModuleNotFoundError("a file of ours", name="wm_gym.nowhere"))
    assert not mendable(KeyError("x")) and not mendable(AssertionError()) and not mendable(TypeError("x"))


# ---------------------------------------------------------------- the whole line


@pytest.mark.slow
def test_the_whole_line_from_the_shell(tmp_path, capsys, monkeypatch):
    """Record, train a world, make it, train an agent in it, evaluate the agent in physics: each by its command."""
    import gymnasium as gym
    import numpy as np

    monkeypatch.chdir(tmp_path)

    def run(line: str) -> str:
        status, out, err = outcome(capsys, *line.split())
        assert status == 0, f"wm-gym {line}\n{out}\n{err}"
        return out

    run("record wm_gym/ReachPyBullet-v0 --episodes 4 --out data --workers 1 --seed 3")
    few = " ".join(flags(**short(10)))
    run(f"train data --out world --preset tiny {few}")
    env = gym.make("wm_gym/World-v0", world="world")
    env.reset(seed=0)
    frame, reward, _, _, _ = env.step(np.zeros(3, np.float32))
    assert env.observation_space.contains(frame) and np.isfinite(reward)
    env.close()
    (tmp_path / "recipe.yml").write_text("default: {policy: CnnPolicy, n_envs: 2, n_steps: 32, batch_size: 32}")
    run(
        "agent train ppo --env wm_gym/World-v0 --out agent --timesteps 64 --recipe recipe.yml "
        '--env-kwargs {"world":"world"}'
    )
    said = run("agent evaluate agent --env wm_gym/World-v0 --episodes 2 --json results.json")
    assert "success in physics" in said
    assert json.loads((tmp_path / "results.json").read_text())["episodes"] == 2
