"""Where the cache cannot be written to: one warning, then everything goes on without it?"""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from wm_gym.common import cache_folder
from wm_gym.data import open_clips
from wm_gym.engine.artefacts import artefact
from wm_gym.physics import urdf

ALL = """
import sys, warnings
import gymnasium as gym, numpy as np
import wm_gym
from wm_gym.data import open_clips
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for env in (gym.make("wm_gym/World-v0", world=sys.argv[1]), gym.make_vec(
            "wm_gym/World-v0", num_envs=2, world=sys.argv[1])):
        env.reset(seed=0)
        env.step(env.action_space.sample())
    twin = gym.make("wm_gym/ReachPyBullet-v0")
    twin.reset(seed=0)
    clips = [open_clips(sys.argv[2], progress=False) for _ in range(2)]
    print(np.asarray(clips[1].frames).sum())
warned = [str(one.message) for one in said if "WM_GYM_CACHE" in str(one.message)]
print(*warned[:1])
print(len(warned))
"""
STRANGER = "--map-user=54321", "--map-group=54321"  # a user whom no system knows


def run(world: Path, balls: Path, *before: str, **environment) -> tuple[str, str, str]:
    """What `ALL` prints: the sum of the frames, the first warning and how many there were."""
    env = {key: value for key, value in os.environ.items() if key not in ("HOME", "WM_GYM_CACHE")} | environment
    done = subprocess.run(
        [*before, sys.executable, "-c", ALL, world, balls], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return tuple(done.stdout.splitlines()[-3:])


def test_an_unknown_user_without_a_home(tiny_world_folder, balls):
    if subprocess.run(["unshare", "--user", *STRANGER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespace can be made here")
    total, warning, times = run(tiny_world_folder, balls, "unshare", "--user", *STRANGER)
    assert int(total) == int(np.asarray(open_clips(balls, progress=False).frames).sum()) and times == "1"
    assert "/.cache/wm_gym" in warning and "Set WM_GYM_CACHE to a folder that can be" in warning


@pytest.fixture
def unwarned(monkeypatch):
    """A process that has not warned yet."""
    monkeypatch.setattr(cache_folder, "_WARNED", [])
    return monkeypatch


@pytest.mark.parametrize("cache", ["/proc/none", "/dev/null/none"])
def test_no_folder_can_be_made(unwarned, balls, cache):
    expected = np.array(open_clips(balls, progress=False).frames)
    unwarned.setenv("WM_GYM_CACHE", cache)
    with pytest.warns(UserWarning, match=f"{cache}.*Set WM_GYM_CACHE to a folder that can be") as said:
        assert artefact({"backend": "some"}, lambda: b"1") == b"1"
        assert artefact({"backend": "some"}, lambda: b"2") == b"2"
        for _ in range(2):
            np.testing.assert_array_equal(open_clips(balls, progress=False).frames, expected)
        urdf.low_polygon_panda()
    assert len(said) == 1


def test_a_cache_that_can_only_be_read_is_read(unwarned, balls, tmp_path):
    expected = np.array(open_clips(balls, cache_dir=tmp_path, progress=False).frames)
    unwarned.setenv("WM_GYM_CACHE", str(tmp_path))
    unwarned.setattr(cache_folder.tempfile, "TemporaryFile", None)  # what would write
    np.testing.assert_array_equal(open_clips(balls, progress=False).frames, expected)


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for asked, place in (("~/mine", tmp_path / "mine"), ("", tmp_path / ".cache" / "wm_gym"), ("/some", Path("/some"))):
        monkeypatch.setenv("WM_GYM_CACHE", asked)
        assert cache_folder.cache_folder() == place
    monkeypatch.delenv("WM_GYM_CACHE")
    assert cache_folder.cache_folder() == tmp_path / ".cache" / "wm_gym"


def test_an_empty_variable_means_the_default_everywhere(unwarned, balls, tmp_path):
    unwarned.setenv("HOME", str(tmp_path))
    unwarned.setenv("WM_GYM_CACHE", "")
    artefact({"backend": "some"}, lambda: b"1")
    open_clips(balls, progress=False)
    urdf.low_polygon_panda()
    kept = {path.name for path in (tmp_path / ".cache" / "wm_gym").iterdir()}
    assert kept >= {"engines", "frames"} and any(name.endswith(".urdf") for name in kept)


def test_a_full_disk_leaves_nothing(small_disk, balls, unwarned):
    (small_disk / "full").write_bytes(bytes(4 * 2**20 - 2**16))
    unwarned.setenv("WM_GYM_CACHE", str(small_disk / "cache"))
    with pytest.warns(UserWarning, match="no space left.*WM_GYM_CACHE"):
        assert artefact({"backend": "some"}, lambda: bytes(2**17)) == bytes(2**17)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert artefact({"backend": "some"}, lambda: bytes(2**17)) == bytes(2**17)
    with pytest.raises(ValueError, match="GB free.*WM_GYM_CACHE"):
        open_clips(balls, progress=False)
    assert not [path for path in (small_disk / "cache").rglob("*") if path.is_file()]
