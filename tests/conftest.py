"""What do the tests share? A cache of their own, a tiny world with random weights, and the real-data fixtures."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_world import make_world
from twins import PUSH, TWINS, make, recorded_episodes

REPOSITORY = Path(__file__).resolve().parents[1]

# Read at import by torch and by its forked children: two pytest processes on two cores get one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing is fetched from the Hub by a test.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("PYTHONHASHSEED", "0")


def pytest_configure(config: pytest.Config) -> None:
    # The tests' own cache, one for all pytest-xdist processes (they inherit the variable), so that nothing of the
    # user's cache helps or is changed.
    if "WM_GYM_TEST_CACHE" not in os.environ:
        os.environ["WM_GYM_TEST_CACHE"] = tempfile.mkdtemp(prefix="wm-gym-tests-")
        config.add_cleanup(_remove_test_cache)
    os.environ["WM_GYM_CACHE"] = os.environ["WM_GYM_TEST_CACHE"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "push_world" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.release)


def pytest_collection_finish() -> None:
    _freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None):
    result = yield
    if nextitem and nextitem.path != item.path:
        _freeze()  # what this file's tests have imported
    return result


def _freeze() -> None:
    """Leave what is imported by now out of later collections of garbage: accelerate asks for one at every stage of a
    training, a quarter of a second each with half a million objects of torch and others to look through."""
    gc.collect()
    gc.freeze()


def _remove_test_cache() -> None:
    shutil.rmtree(os.environ.pop("WM_GYM_TEST_CACHE", ""), ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _auto_is_torch():
    """backend="auto" takes torch: OpenVINO compiles each world and batch size for seconds (marker `auto`: it may)."""
    import wm_gym.engine

    best = wm_gym.engine._best
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wm_gym.engine._best", lambda device: ("torch", "tests compile nothing that they do not ask for"))
        yield best


@pytest.fixture(autouse=True)
def _auto_is_itself(request, _auto_is_torch, monkeypatch):
    if request.node.get_closest_marker("auto"):
        monkeypatch.setattr("wm_gym.engine._best", _auto_is_torch)


@pytest.fixture(scope="session")
def once():
    """`once(name, make)`: the folder that `make(folder)` filled for the first process that asked; read it only."""

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = Path(os.environ["WM_GYM_TEST_CACHE"]) / "made" / name
        done = folder.with_name(f"{name}.done")
        folder.parent.mkdir(exist_ok=True)
        with open(folder.with_name(f"{name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.is_file():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def balls(once):
    """40 short episodes of the ball environment, 32 x 32."""
    from wm_gym.collect.record import record

    env_id = "ball_env:wm_gym_test/Ball-v0"
    made = once("balls", lambda folder: record(env_id, 40, policy="mix", out=folder / "balls", seed=0, workers=0))
    return made / "balls"


@pytest.fixture(scope="session")
def push_episodes(tmp_path_factory):
    """16 pushes of 2 s by the expert, with Push's twin; whole recordings are `push_episodes.clips`."""
    return recorded_episodes(tmp_path_factory.mktemp("data") / "pushes", PUSH, 16, 20, "expert", seed=3)


@pytest.fixture(scope="session")
def push_twin():
    """Push's physics: `twin`, as a roll-out `physics`, what it tracks `tracked`, and the `spec` of its worlds."""
    from wm_gym.evaluation.control_worlds import physics
    from wm_gym.physics.tracked import tracked_by
    from wm_gym.worlds.spec import WorldSpec

    twin, spec = make(PUSH, render_mode="rgb_array"), WorldSpec.load(REPOSITORY / "envs" / "Push-v0")
    yield SimpleNamespace(twin=twin, physics=physics(twin), tracked=tracked_by(twin), spec=spec)
    twin.close()


@pytest.fixture(scope="session")
def push_world(push_twin):
    """The same with the shipped Push-v0 on the reference back-end: `world`, `roll_out`. Makes a test `release`."""
    from wm_gym.engine.shared import load_world
    from wm_gym.engine.torch import TorchEngine
    from wm_gym.evaluation.control_worlds import learned

    world = load_world(REPOSITORY / "envs" / "Push-v0")
    return SimpleNamespace(**vars(push_twin) | {"world": world, "roll_out": learned(world, TorchEngine(world))})


@pytest.fixture(scope="session")
def push_like(once):
    """A world of Push's frames and actions that was trained for seconds; its judge calls about half of the episodes of
    its policy a success. `folder`, `world`, and `agent`, that policy's folder (64 steps of PPO)."""
    from wm_gym.engine.shared import load_world

    made = once("push-like", _make_push_like)
    folder = made / "PushLike-v0"
    return SimpleNamespace(folder=folder, world=load_world(folder), agent=made / "ppo-PushLike-v0")


def _make_push_like(folder: Path) -> None:
    from small_agent import train_small

    from wm_gym.collect.imagine import imagine_episodes
    from wm_gym.engine.torch import TorchEngine
    from wm_gym.evaluation.control_worlds import learned
    from wm_gym.training import train
    from wm_gym.worlds.calibration import Calibration
    from wm_gym.worlds.world import World

    updates = {"tokenizer_updates": 100, "pose_updates": 100, "dynamics_updates": 40, "heads_updates": 40}
    updates |= {"uncertainty_updates": 20, "uncertainty_rollouts": 8, "starts": 16}
    steps = 30
    episodes = recorded_episodes(folder / "data", PUSH, 8, steps, "mix", seed=11)
    world = World.from_pretrained(
        train(folder / "data", folder / "trained", preset="tiny", overrides=updates, progress=False)
    )
    likely = learned(world, TorchEngine(world))(episodes)["success"]
    world.spec.name, world.spec.horizon, world.spec.twin = "PushLike-v0", steps, PUSH
    world.calibration = Calibration(0.1, 5.0, 1.0, 1.0, [[0.0, 10], [1.0, 2]], 100, steps, "a test")
    agent = train_small(folder / "ppo-PushLike-v0", world.save_pretrained(folder / "PushLike-v0"))

    def far_from_half(threshold: float) -> float:
        world.spec.success_threshold = float(threshold)
        return abs(
            np.mean([one.success.any() for one in imagine_episodes(world, agent, 12, seed=4, progress=False)]) - 0.5
        )

    far: dict[float, float] = {}
    for threshold in map(float, np.quantile(likely, [0.9, 0.95, 0.8, 0.98, 0.5])):
        far[threshold] = far_from_half(threshold)
        if far[threshold] <= 0.2:
            break
    world.spec.success_threshold = min(far, key=far.get)
    world.save_pretrained(folder / "PushLike-v0")


@pytest.fixture(scope="session")
def push_reader(push_episodes, push_twin):
    """Frames -> hand and block [..., 4] in metres, within half a centimetre."""
    from push_reader import fit_reader

    return fit_reader(push_episodes.frames, push_twin.tracked.states(push_episodes)[..., :4])


@pytest.fixture
def interrupted():
    """`with interrupted(n):` the user interrupts what writes a dataset when it has written n episodes."""

    @contextlib.contextmanager
    def at(episodes: int):
        from wm_gym.data import LeRobotWriter

        add = LeRobotWriter.add_episode

        def broken(self, *args):
            if self.num_episodes == episodes:
                raise KeyboardInterrupt
            add(self, *args)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(LeRobotWriter, "add_episode", broken)
            yield

    return at


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB; skips where this process may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings (`shared/data` beside the checkout, or WM_GYM_SHARED_DATA); skips without it."""
    folder = Path(os.environ.get("WM_GYM_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real-data fixtures are not at {folder}; set WM_GYM_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def droid_dataset(shared_data: Path) -> Path:
    """11 real Franka episodes as LeRobotDataset v3.0: 854 frames of 192 x 320, 2 cameras, 7 actions, 5 fps."""
    folder = shared_data / "droid_lerobot"
    if not (folder / "meta" / "info.json").is_file():
        pytest.skip(f"{folder} holds no LeRobotDataset")
    return folder


def _tiny_spec():
    from wm_gym.worlds.spec import WorldSpec

    return WorldSpec(
        name="Tiny-v0",
        frame_size=[64, 64],
        action_low=[-1.0] * 3,
        action_high=[1.0] * 3,
        action_names=["x", "y", "z"],
        action_unit="2 cm",
        proprioception_names=["x", "y", "z"],
        proprioception_unit="m",
        reward_components=["progress", "success"],
        horizon=12,
        success_threshold=2.0,
        task_description="touch the ball",
    )


@pytest.fixture
def tiny_spec():
    """A spec like Reach's (64 x 64 x 3, three actions, three proprioceptive values), whose episodes never succeed."""
    return _tiny_spec()


@pytest.fixture
def tiny_world(tiny_spec):
    """A world with random weights: fast, and wrong about everything but its shapes. One's own to change."""
    from wm_gym.training.build import new_world

    return new_world(tiny_spec, preset="tiny", seed=0)


@pytest.fixture(scope="session")
def tiny_world_folder(tmp_path_factory) -> Path:
    """The same tiny world saved as a folder; read it, never write into it."""
    from wm_gym.training.build import new_world

    folder = tmp_path_factory.mktemp("worlds") / "tiny"
    return new_world(_tiny_spec(), preset="tiny", seed=0).save_pretrained(folder)


@pytest.fixture(scope="module")
def world():
    """A tiny world whose success threshold and start bank are set (tiny_world.py)."""
    return make_world()


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory) -> str:
    """The same world saved as Tiny-v0; read it, never write into it."""
    return str(world.save_pretrained(tmp_path_factory.mktemp("worlds") / "Tiny-v0"))


@pytest.fixture(scope="module", params=TWINS)
def twin(request):
    """Each physics twin in turn, with episodes that go on at the goal."""
    env = make(request.param, terminate_on_success=False)
    yield env
    env.close()


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory) -> Path:
    """A tiny world with random weights and Reach's twin, saved."""
    world = make_world(horizon=10, success_threshold=0.5)
    world.spec.twin = "wm_gym/ReachPyBullet-v0"
    return world.save_pretrained(tmp_path_factory.mktemp("rl-world") / "tiny")
