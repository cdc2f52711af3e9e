"""What do the tests share? A cache of their own, a tiny world with random weights, and the real-data fixtures."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

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
    config.addinivalue_line("markers", "slow: trains for more than ten seconds; leave out with -m 'not slow'")
    # The tests' own cache, one for all pytest-xdist processes (they inherit the variable), so that nothing of the
    # user's cache helps or is changed.
    if "WM_GYM_TEST_CACHE" not in os.environ:
        os.environ["WM_GYM_TEST_CACHE"] = tempfile.mkdtemp(prefix="wm-gym-tests-")
        config.add_cleanup(_remove_test_cache)
    os.environ["WM_GYM_CACHE"] = os.environ["WM_GYM_TEST_CACHE"]


def _remove_test_cache() -> None:
    shutil.rmtree(os.environ.pop("WM_GYM_TEST_CACHE", ""), ignore_errors=True)


@pytest.fixture(scope="session")
def balls(tmp_path_factory):
    """40 short episodes of the ball environment, 32 x 32."""
    from wm_gym.collect.record import record

    return record(
        "ball_env:wm_gym_test/Ball-v0",
        40,
        policy="mix",
        out=tmp_path_factory.mktemp("data") / "balls",
        seed=0,
        workers=0,
    )


@pytest.fixture(scope="session")
def push_episodes(tmp_path_factory):
    """16 pushes of 2 s by the expert, with Push's twin; whole recordings are `push_episodes.clips`."""
    return recorded_episodes(tmp_path_factory.mktemp("data") / "pushes", PUSH, 16, 20, "expert", seed=3)


@pytest.fixture(scope="session")
def push_world():
    """The shipped world Push-v0 on the reference back-end, as a roll-out, with its spec and its physics twin's."""
    from types import SimpleNamespace

    from wm_gym.engine.shared import load_world
    from wm_gym.engine.torch import TorchEngine
    from wm_gym.evaluation.control_worlds import learned, physics
    from wm_gym.physics.tracked import tracked_by

    world, twin = load_world(REPOSITORY / "envs" / "Push-v0"), make(PUSH, render_mode="rgb_array")
    yield SimpleNamespace(
        world=world,
        spec=world.spec,
        roll_out=learned(world, TorchEngine(world)),
        twin=twin,
        physics=physics(twin),
        tracked=tracked_by(twin),
    )
    twin.close()


@pytest.fixture(scope="session")
def push_reader(push_episodes, push_world):
    """Frames -> hand and block [..., 4] in metres, within half a centimetre."""
    from push_reader import fit_reader

    return fit_reader(push_episodes.frames, push_world.tracked.states(push_episodes)[..., :4])


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
