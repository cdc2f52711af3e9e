"""What does a damaged folder do? It is loaded and stepped a little, with 2 s of processor time, 10 s in all and 1 GB.

verdict, text = try_folder("world", tmp / "broken")   # "sound", "refused", or the fault
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from damage_folders import EVIL

GOOD = ("sound", "refused")
CPU_SECONDS, SECONDS, MEMORY = 2, 10, 2**30


class Trials:
    """A process without threads that forks one for each trial, whatever threads the caller has by then."""

    def __init__(self) -> None:
        self.server = None

    def ask(self, kind: str, folder: Path) -> tuple[str, str]:
        if self.server is None or self.server.poll() is not None:
            self.server = subprocess.Popen(
                [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        self.server.stdin.write(json.dumps([kind, str(folder)]) + "\n")
        self.server.stdin.flush()
        return tuple(json.loads(self.server.stdout.readline()))


_TRIALS = Trials()


def try_folder(kind: str, folder: Path) -> tuple[str, str]:
    """Load a folder and step it a little in a process of its own -> (verdict, text).

    "sound": it worked, and all results are finite. "refused": a ValueError or an OSError that names a file of the
    folder. Anything else is a fault: "hang", "memory", "nan", "code", "unnamed" or "raw TYPE".
    """
    return _TRIALS.ask(kind, folder)


def _fork(kind: str, folder: Path) -> tuple[str, str]:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        with contextlib.suppress(BaseException):
            os.write(writer, json.dumps(_trial(kind, Path(folder)))[:4000].encode())
        os._exit(0)
    os.close(writer)
    try:
        data, until = b"", time.monotonic() + SECONDS
        while (left := until - time.monotonic()) > 0 and select.select([reader], [], [], left)[0]:
            if not (more := os.read(reader, 65536)):
                break
            data += more
        else:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(reader)
        status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        ended = signal.Signals(os.WTERMSIG(status)).name
        return ("hang", ended) if ended in ("SIGXCPU", "SIGKILL") else (f"raw {ended}", ended)
    try:
        verdict, text = json.loads(data)
    except ValueError:
        return "raw nothing", data.decode(errors="replace")
    return verdict, text


def prepare() -> None:
    """What trials need, imported once before the first fork: libraries that others import late take half a second."""
    import gc

    import av  # noqa: F401
    import pandas  # noqa: F401
    import pyarrow.dataset  # noqa: F401
    import stable_baselines3  # noqa: F401
    import torch
    import torch._dynamo
    import torch.fx.experimental.symbolic_shapes

    import wm_gym.data
    import wm_gym.data.formats.lerobot_reader
    import wm_gym.engine.torch
    import wm_gym.env
    import wm_gym.policies.loaders
    import wm_gym.policies.planner  # noqa: F401
    from wm_gym.data.formats import registry as formats  # noqa: F401

    torch.set_num_threads(1)
    gc.freeze()


def _trial(kind: str, folder: Path) -> tuple[str, str]:
    ran: list[str] = []

    def watch(event: str, args: tuple) -> None:
        if (
            event == "import"
            and str(args[0]).startswith(EVIL)
            or event
            in (
                "pickle.find_class",
                "os.system",
                "subprocess.Popen",
                "os.exec",
                "os.posix_spawn",
                "os.fork",
                "socket.connect",
            )
        ):
            ran.append(f"{event} {str(args)[:100]}")

    warnings.simplefilter("ignore")
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    sys.addaudithook(watch)
    base = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    try:
        finite = {"world": _world, "agent": _act, "planner": _plan, "dataset": _read}[kind](folder)
        verdict, text = ("sound", "") if finite else ("nan", "it went on with numbers that are not finite")
    except BaseException as error:
        verdict, text = judged(error, folder)
    return ("code", ran[0]) if ran else (verdict, text)


def judged(error: BaseException, folder: Path) -> tuple[str, str]:
    """The verdict on what a trial raised."""
    text, one, seen = f"{type(error).__name__}: {error}", error, set()
    while one is not None and id(one) not in seen:  # a failed allocation that somebody called something else
        seen.add(id(one))
        if isinstance(one, MemoryError) or "allocat" in str(one).lower():
            return "memory", text
        one = one.__cause__ or one.__context__
    if not isinstance(error, (ValueError, OSError)) or isinstance(error, (UnicodeError, json.JSONDecodeError)):
        return f"raw {type(error).__name__}", text
    rest = str(error).replace(str(folder), "", 1)
    names = {
        "config.yml",
        "policy.safetensors",
        "goal.png",
        "info.json",
        "episodes",
        "tasks",
        "stats.json",
        "data",
        "videos",
        "spec.yaml",
        "calibration.json",
        "starts.safetensors",
        "config.json",
        "diffusion_pytorch_model",
    }
    if str(folder) not in str(error) or not any(name in rest for name in names):
        return "unnamed", text
    return "refused", text


def _status(key: str) -> int:
    """A number of bytes out of /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def _finite(value) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return bool(np.isfinite(np.asarray(value)).all()) if np.asarray(value).dtype.kind in "fc" else True


def _world(folder: Path) -> bool:
    from wm_gym.env import WorldEnv

    env = WorldEnv(folder, render_mode="rgb_array", backend="torch")
    observation, info = env.reset(seed=0)
    results = [observation, info]
    for k in range(2):
        if k:
            env.reset(seed=k)
        results.extend(env.step(env.action_space.sample()))
    results += [env.render(), env.get_state(), env.metadata["render_fps"]]
    return all(map(_finite, results))


def _act(folder: Path) -> bool:
    from wm_gym.policies.loaders import load_agent

    agent = load_agent(folder)
    space = agent.policy.observation_space
    space.seed(0)
    observation = space.sample()
    batch = (
        {key: value[None] for key, value in observation.items()} if isinstance(observation, dict) else observation[None]
    )
    properties = agent.name, agent.algo, agent.env_id, agent.env_kwargs, agent.frame_stack, agent.env_wrapper
    return _finite(agent.act(batch)) and len(properties) == 6


def _plan(folder: Path) -> bool:
    from dataclasses import replace

    import wm_gym.engine
    from wm_gym.policies.loaders import load_agent

    wm_gym.engine._best = lambda device: ("torch", "its threads survive a fork")
    agent = load_agent(folder)
    planner, search = agent.policy, agent.policy.search
    elites = min(search.elites, 4)  # a long search takes its time: what matters is how it begins
    planner.search = replace(
        search, horizon=min(search.horizon, 8), candidates=8, elites=elites, iterations=min(search.iterations, 2)
    )
    frame = planner.world.starts.frames[0, -1:]
    actions, _ = agent.predict(frame)
    return _finite(actions)


def _read(folder: Path) -> bool:
    from wm_gym.data import open_reader

    reader = open_reader(folder)
    columns = reader.columns()
    for camera in reader.cameras:
        for _, frame in reader.iter_frames(camera):
            assert frame.dtype == np.uint8
        reader.frames(camera, len(reader) - 1)
        reader.content_hash(camera)
    return all(_finite(values) for key, values in columns.items()) and _finite(reader.fps)


def _serve() -> None:
    prepare()
    for line in sys.stdin:
        print(json.dumps(_fork(*json.loads(line))), flush=True)


if __name__ == "__main__" and sys.argv[1:] == ["--serve"]:
    _serve()
elif __name__ == "__main__":  # damage_trial.py KIND FIRST LAST: try seeds, print faults
    import tempfile

    from damage_folders import damaged, sources

    kind, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as place:
        folder, counts = sources(Path(place) / "sound")[kind], {}
        print("undamaged:", try_folder(kind, folder))
        for seed in range(first, last):
            what = damaged(folder, Path(place) / "broken", seed)
            began = time.monotonic()
            verdict, text = try_folder(kind, Path(place) / "broken")
            counts[verdict] = counts.get(verdict, 0) + 1
            if verdict not in GOOD or "-v" in sys.argv:
                print(f"{seed} {verdict} ({time.monotonic() - began:.1f} s) {what}\n      {text[:600]}", flush=True)
        print(counts)
