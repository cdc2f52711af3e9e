"""How does a policy of lerobot (ACT, diffusion policy) act here? In a process of lerobot's own environment."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from wm_gym.common.accepted import shown
from wm_gym.common.reading import read_mapping
from wm_gym.policies.agent import Observation
from wm_gym.policies.callable import ExternalAgent, ExternalPolicy, external_config
from wm_gym.policies.lerobot_worker import receive, send

LEROBOT_CONFIG = "config.json"
PYTHON_VARIABLE = "WM_GYM_LEROBOT_PYTHON"
"""Names the interpreter of an environment that has lerobot."""
FILES = (LEROBOT_CONFIG, "model.safetensors")
WORKER = Path(__file__).with_name("lerobot_worker.py")
INSTALL = "python -m venv ~/lerobot && ~/lerobot/bin/pip install lerobot"


class LeRobotPolicy(ExternalPolicy):
    """The policy of a folder that lerobot saved; its process starts at the first action.

    It looks at one camera, and at the proprioception where it has `observation.state`. Pictures of another size than
    its own are resized. lerobot's policies keep a queue of actions for a whole batch, so that all environments of a
    batch begin their episodes together. RuntimeError where its process fails, with what it says.
    """

    def __init__(self, folder: Path, config: dict[str, Any], device: str = "cpu"):
        super().__init__(folder.name)
        self.folder, self.device, self.camera, self.state_dim = folder, device, *_inputs(folder, config)
        self._process: subprocess.Popen[bytes] | None = None

    def act(self, observation: Observation, state: Any, begins: np.ndarray) -> tuple[np.ndarray, Any]:
        """The process's actions; ValueError for episodes that begin at different times, and for another pose."""
        if begins.any() and not begins.all():
            raise ValueError(
                f"{self.name}: a lerobot policy cannot begin an episode in some environments of a batch "
                "while it goes on in others; evaluate it with n_envs=1"
            )
        pictures = observation["pixels"] if isinstance(observation, dict) else observation
        request = {"reset": np.array(begins.all()), self.camera: np.ascontiguousarray(pictures)}
        if self.state_dim:
            pose = np.asarray(observation["agent_pos"], np.float32)
            if pose.shape[1:] != (self.state_dim,):
                raise ValueError(
                    f"{self.name} takes observation.state of {self.state_dim} numbers, this environment "
                    f"has {list(pose.shape[1:])}: evaluate it in the world of the dataset that it was "
                    "trained on"
                )
            request["observation.state"] = pose
        return self._ask(request), True

    def _ask(self, request: dict[str, np.ndarray]) -> np.ndarray:
        """The process's action; it is started where it does not run."""
        if self._process is None:
            self._process = self._started()
            self._reply(self._process, {})  # to its start
        return self._reply(self._process, request)["action"]

    def _reply(self, process: subprocess.Popen[bytes], request: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert process.stdin and process.stdout
        try:
            if request:
                send(process.stdin, **request)
            reply = receive(process.stdout)
        except BrokenPipeError:
            reply = None
        if reply is None or "error" in reply:
            self._errors.seek(0)
            said = str(reply["error"]) if reply else f"it ended: {self._errors.read()[-1500:].strip()}"
            self._stop()
            raise RuntimeError(f"{self.name} in lerobot's environment: {said}")
        return reply

    def _started(self) -> subprocess.Popen[bytes]:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  as long as the process
        # -I and -c: neither our modules nor the working directory are on its path
        process = subprocess.Popen(
            [lerobot_python(), "-I", "-c", WORKER.read_text(), str(self.folder.resolve()), self.device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._stop = weakref.finalize(self, _end, process)
        return process


def load_lerobot(folder: Path, device: str = "cpu") -> ExternalAgent:
    """The agent of a folder with lerobot's config.json and model.safetensors; ValueError where it cannot act here."""
    for path in sorted(folder.glob("*.json")):
        _check_steps(path)
    policy = LeRobotPolicy(folder, read_mapping(folder / FILES[0], finite=False), "cpu" if device == "auto" else device)
    config = external_config("lerobot", "pixels+state" if policy.state_dim else "pixels")
    return ExternalAgent(policy, config, folder)


def _check_steps(path: Path) -> None:
    """ValueError where the steps before or after a policy name a class that lerobot would import from elsewhere."""
    try:
        steps = read_mapping(path, finite=False)["steps"]
        classes = [str(step["class"]) for step in steps if "class" in step]
    except (ValueError, OSError, KeyError, TypeError):
        return  # no such file, or one that lerobot will complain of
    if strange := [one for one in classes if not one.startswith("lerobot.")]:
        raise ValueError(
            f"{path}: a step is of the class {strange[0]!r}, expected one of lerobot's own; what a "
            "file says is not imported: do not trust this folder"
        )


def is_lerobot(folder: Path) -> bool:
    """Whether a folder is a policy that lerobot saved."""
    if not all((folder / name).is_file() for name in FILES):
        return False
    try:
        config = read_mapping(folder / FILES[0], finite=False)
    except (OSError, ValueError):
        return False
    return {"type", "input_features", "output_features"} <= set(config)


def lerobot_python() -> str:
    """The interpreter that has lerobot: what the environment variable names, or this one; ImportError for none."""
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        if found := shutil.which(os.path.expanduser(named)):
            return found
        raise ImportError(f"{PYTHON_VARIABLE}={named} is no program; name the Python of an environment with lerobot")
    if importlib.util.find_spec("lerobot"):
        return sys.executable
    raise ImportError(
        "a lerobot policy runs in an environment of its own, as lerobot pins other versions: "
        f"{INSTALL}, then --lerobot-python ~/lerobot/bin/python, or set {PYTHON_VARIABLE}"
    )


def _inputs(folder: Path, config: dict[str, Any]) -> tuple[str, int]:
    """The camera that a policy looks at and how many numbers of state it takes (0: none)."""
    kinds: dict[str, list[str]] = {}
    features = config["input_features"] or {}
    for name, feature in features.items() if isinstance(features, dict) else [("input_features", features)]:
        kind, shape = (feature.get("type"), feature.get("shape")) if isinstance(feature, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
            raise ValueError(
                f"{folder / FILES[0]}: the feature {name} is {shown(feature)}, expected a type and a shape"
            )
        kinds.setdefault(kind, []).append(name)
    cameras, states = kinds.pop("VISUAL", []), kinds.pop("STATE", [])
    if len(cameras) != 1 or kinds or states not in ([], ["observation.state"]):
        names = sorted(features)
        raise ValueError(
            f"{folder} looks at {names}; expected one camera, with or without observation.state: a world shows no more"
        )
    return cameras[0], sum(features[states[0]]["shape"][:1]) if states else 0


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin and process.stdout
    process.stdin.close()
    process.stdout.close()
    process.terminate()
    process.wait()
