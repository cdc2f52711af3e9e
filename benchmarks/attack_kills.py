"""What is left of each command that a kill ends at any moment? SIGKILL at moments drawn by a seed, on real small data.

A save is repeated over itself until the kill; then what is there must load, be the old or the new to the last byte, and
the next save must leave nothing beside it. A run (a conversion, a recording, a training ...) is killed anywhere in its
length; then the same command must go on, or begin again, to the result of an unbroken run.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
LENGTH = 1.1  # of an unbroken run: kills are drawn in this range, so that some come after the end


class Sources:
    """What the commands work on: made once, of the tests' ball environment and tiny world."""

    def __init__(self, scratch: Path):
        self.scratch = scratch

    @cached_property
    def balls(self) -> Path:
        from wm_gym.collect.record import record

        return record("ball_env:wm_gym_test/Ball-v0", 8, out=self.scratch / "balls", seed=0, workers=0, progress=False)

    @cached_property
    def episodes(self) -> Path:
        """Of the tiny world's twin-like shapes: as many episodes as a calibration needs."""
        from wm_gym.collect.record import record

        return record(
            "ball_env:wm_gym_test/Ball-v0", 24, out=self.scratch / "episodes", seed=1, workers=0, progress=False
        )

    @cached_property
    def worlds(self) -> list:
        """Two worlds of the ball environment, with other weights."""
        from wm_gym.data import open_clips
        from wm_gym.training.build import new_world
        from wm_gym.training.trainer import spec_of
        from wm_gym.worlds.starts import StartBank

        clips = open_clips(self.balls, progress=False)
        bank = StartBank(*_starts(clips))
        return [new_world(spec_of(clips, "Balls-v0"), preset="tiny", seed=seed, starts=bank) for seed in (0, 1)]

    @cached_property
    def world(self) -> Path:
        return self.worlds[0].save_pretrained(self.scratch / "world")

    @cached_property
    def models(self) -> list:
        """Two policies for that world."""
        from stable_baselines3 import PPO

        from wm_gym.sb3 import WorldVecEnv

        env = WorldVecEnv(1, world=self.world, backend="torch")
        return [
            PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=seed, device="cpu", policy_kwargs={"net_arch": [16]})
            for seed in (0, 1)
        ]

    @cached_property
    def agent(self) -> Path:
        return save_agent(self.models[0], self.scratch / "agent")

    @cached_property
    def labeller(self):
        from wm_gym.data import open_clips
        from wm_gym.inverse.labeller import train_labeller

        clips = open_clips(self.balls, progress=False)
        return train_labeller(clips, self.scratch / "idm", "pair", updates=20, progress=False)


def _starts(clips) -> tuple:
    first = clips.episode_offset[:-1]
    frames = np.asarray(clips.frames)[first]
    return (
        np.stack([frames, frames], 1),
        np.zeros((len(first), 1, clips.action.shape[1]), np.float32),
        np.repeat(clips.proprioception[first][:, None], 2, 1),
        np.arange(len(first)),
        np.zeros(len(first), int),
    )


def save_agent(model, folder: Path) -> Path:
    from wm_gym.policies.folder import save_agent as save

    return save(model, folder, {"algo": "ppo", "policy": "MlpPolicy", "env_id": "wm_gym/World-v0", "n_timesteps": 8})


@dataclass(frozen=True)
class Command:
    """How one command is tried.

    act(folder): the run, or one save. begin(folder): what is there before. result(folder): all that must be whole after
    a kill, as one digest; raises what the user would see. saves: it is a save, whose digest is `begin`'s or `act`'s.
    """

    act: Callable[[Path], object]
    result: Callable[[Path], str]
    begin: Callable[[Path], object] = lambda folder: None
    saves: bool = False


def commands(made: Sources) -> dict[str, Command]:
    """The commands by name."""
    from wm_gym.collect.imagine import imagine
    from wm_gym.collect.record import record
    from wm_gym.data.formats.convert import convert
    from wm_gym.evaluation.trust.calibrate import calibrate
    from wm_gym.inverse.labeller import VideoLabeller, label_dataset
    from wm_gym.policies.loaders import load_agent
    from wm_gym.rl.train import train_agent
    from wm_gym.training.trainer import train
    from wm_gym.worlds.world import World

    def world_digest(folder: Path) -> str:
        World.from_pretrained(folder)
        return of_files(folder)

    def agent_digest(folder: Path) -> str:
        load_agent(folder)
        return of_files(folder)

    def idm_digest(folder: Path) -> str:
        VideoLabeller.load(folder)
        return of_files(folder)

    def weights(folder: Path) -> str:
        return of_files(folder, "*.safetensors")

    few = {
        "tokenizer_updates": 4,
        "pose_updates": 4,
        "dynamics_updates": 4,
        "heads_updates": 4,
        "uncertainty_updates": 4,
        "checkpoint_every": 2,
        "report_every": 4,
        "starts": 4,
    }
    return {
        "world": Command(
            lambda f: made.worlds[1].save_pretrained(f),
            world_digest,
            lambda f: made.worlds[0].save_pretrained(f),
            saves=True,
        ),
        "agent": Command(
            lambda f: save_agent(made.models[1], f), agent_digest, lambda f: save_agent(made.models[0], f), saves=True
        ),
        "convert": Command(lambda f: convert(made.balls, f, progress=False), of_files),
        "record": Command(
            lambda f: record(
                "ball_env:wm_gym_test/Ball-v0", 4, out=f, seed=3, workers=0, progress=False, shard_frames=20
            ),
            of_files,
        ),
        "inverse dynamics": Command(
            lambda f: made.labeller.save(f), idm_digest, lambda f: made.labeller.save(f), saves=True
        ),
        "labelled video": Command(lambda f: label_dataset(made.balls, made.labeller, f, progress=False), of_files),
        "imagine": Command(
            lambda f: imagine(made.world, made.agent, f, 3, keep_failures=True, progress=False), of_files
        ),
        "calibration": Command(
            lambda f: calibrate(f, [made.episodes], progress=False),
            world_digest,
            lambda f: made.worlds[0].save_pretrained(f),
        ),
        "agent training": Command(
            lambda f: train_agent(
                "ppo",
                "wm_gym/World-v0",
                f,
                32,
                env_kwargs={"world": str(made.world), "backend": "torch"},
                recipe={"policy": "MlpPolicy", "n_envs": 1, "n_steps": 8, "batch_size": 8, "n_epochs": 1},
                checkpoint_every=8,
                progress=False,
                device="cpu",
                resume=True,
            ),
            weights,
        ),
        "world training": Command(
            lambda f: train(made.balls, f, preset="tiny", overrides=few, progress=False, cpu=True), weights
        ),
        "evaluation": Command(lambda f: _evaluate(f), _answers),
    }


def _evaluate(folder: Path) -> None:
    from wm_gym.evaluation.suite.context import Size
    from wm_gym.evaluation.suite.suite import evaluate

    few = Size(episodes=4, long_episodes=2, promised_episodes=4, reader_episodes=4, reader_updates=4, starts=2)
    evaluate(
        Path(__file__).resolve().parents[1] / "envs" / "Push-v0",
        out=folder,
        only=["films", "uncertainty"],
        size=few,
        progress=False,
    )


def _answers(folder: Path) -> str:
    import json

    from wm_gym.evaluation.report.page import write_trust_report

    write_trust_report(folder)
    found = json.loads((folder / "uncertainty.json").read_text())["result"]
    with np.load(folder / "films.npz") as films:
        frames = [films[name].tobytes() for name in sorted(films.files)]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode() + b"".join(frames)).hexdigest()


def of_files(folder: Path, pattern: str = "*") -> str:
    """Digest of a folder's files: names and bytes. ValueError where it is empty."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    if not files:
        raise ValueError(f"{folder} holds no {pattern}")
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(folder)).encode() + b"\\0" + file.read_bytes())
    return digest.hexdigest()


def in_child(act: Callable[[], object], seconds: float | None = None) -> tuple[int, float]:
    """(exit status, seconds) of a forked child that does it, killed with its children after some seconds."""
    child, started = os.fork(), time.monotonic()
    if child == 0:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        if not os.environ.get("ATTACK_SHOWS"):
            os.dup2(null, 2)
        try:
            act()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    os.setpgid(child, child)  # here too: a kill may come before the child has done it
    if seconds is None:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.monotonic() - started
    while time.monotonic() - started < seconds:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), time.monotonic() - started
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.monotonic() - started


def attack(name: str, trials: int, scratch: Path, seed: int = 0) -> dict:
    """Kill a command so often; {"kills", "after the end", "survived", "lost": what was found, "seconds"}."""
    made = Sources(scratch)
    for source in ("world", "episodes", "agent", "labeller"):
        getattr(made, source)  # before the first fork
    command, started = commands(made)[name], time.monotonic()
    expected, length = _unbroken(command, scratch / "unbroken" / "it")
    rng, lost, ended = random.Random(f"{name} {seed}"), [], 0
    kills = 0
    while kills < trials:
        folder = scratch / "trial" / "it"
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.parent.mkdir(parents=True)
        command.begin(folder)
        moment = rng.uniform(0, LENGTH * length)
        act = partial(_for_ever if command.saves else _once, command, folder)
        status, _ = in_child(act, moment)
        if status == 0:
            ended += 1
            continue
        kills += 1
        why = (
            f"it ended by itself with status {status}"
            if status != -signal.SIGKILL
            else _whole(command, folder, expected)
        )
        if why:
            lost.append(f"kill {kills} after {moment:.3f} s: {why}")
    return {
        "kills": kills,
        "ended before their kill": ended,
        "survived": kills - len(lost),
        "lost": lost[:20],
        "unbroken_s": round(length, 3),
        "seconds": round(time.monotonic() - started, 1),
    }


def _once(command: Command, folder: Path) -> None:
    command.act(folder)


def _for_ever(command: Command, folder: Path) -> None:
    while True:
        command.act(folder)
        command.begin(folder)


def _unbroken(command: Command, folder: Path) -> tuple[set[str], float]:
    """What may be there afterwards, and how long it takes."""
    for _ in range(2):  # the second one finds the caches filled, as the kills do
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.parent.mkdir(parents=True)
        command.begin(folder)
        expected = {command.result(folder)} if command.saves else set()
        status, length = in_child(lambda: command.act(folder))
        if status:
            raise SystemExit("the unbroken run fails; see why with ATTACK_SHOWS=1")
    return expected | {command.result(folder)}, max(length, 0.3) if command.saves else length


def _whole(command: Command, folder: Path, expected: set[str]) -> str:
    """What is wrong after a kill, "" where nothing is."""
    found = []

    def look() -> None:
        if not command.saves:
            command.act(folder)
        if command.result(folder) not in expected:
            raise AssertionError(
                "it is neither the old nor the new"
                if command.saves
                else "it went on to another result than an unbroken run's"
            )
        if command.saves:
            command.act(folder)
            if scraps := [path.name for path in folder.parent.iterdir() if path != folder]:
                raise AssertionError(f"beside it stays {scraps}")

    read, write = os.pipe()

    def attempt() -> None:
        try:
            look()
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode()[:2000])
            raise

    status, _ = in_child(attempt)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read().decode(errors="replace")
    return found or (f"the next run ended with status {status}" if status else "")
