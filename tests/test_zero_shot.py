"""Where a block goes in a generated video, and the probe on real pipelines with random weights."""

from __future__ import annotations

import json

import imageio.v3 as iio
import numpy as np
import pytest
from tiny_bases import write_svd, write_wan

from wm_gym.cli import main
from wm_gym.evaluation.suite.zero_shot import direction_of, moved, swapped

YELLOW = (242, 191, 26)


def film(shift: tuple[int, int], last_size: int = 10, noise: int = 0) -> np.ndarray:
    """6 frames of a block that moves so many pixels in x and y."""
    frames = np.random.default_rng(0).integers(60, 61 + noise, (6, 64, 64, 3)).astype(np.uint8)
    for t, frame in enumerate(frames):
        size = last_size if t == 5 else 10
        x, y = (round(27 + s * t / 5) for s in shift)
        frame[y : y + size, x : x + size] = YELLOW
    return frames


@pytest.mark.parametrize(
    "shift, direction, obeyed",
    [
        ((-15, 0), "left", True),
        ((15, 0), "left", False),
        ((-15, 8), "left", True),
        ((-8, 15), "left", False),
        ((-1, 0), "left", False),
        ((15, 0), "right", True),
        ((0, -12), "up", True),
        ((0, 12), "down", True),
    ],
)
def test_a_known_way_is_read(shift, direction, obeyed):
    found = moved(film(shift, noise=20), YELLOW, direction)
    assert found["obeyed"] is obeyed
    assert 64 * found["dx"] == pytest.approx(shift[0], abs=0.1) and 64 * found["dy"] == pytest.approx(shift[1], abs=0.1)
    assert found["kept"]


def test_a_block_that_vanishes_has_not_obeyed():
    found = moved(film((-15, 0), last_size=0), YELLOW, "left")
    assert found == {"dx": None, "dy": None, "distance": None, "kept": False, "moved": False, "obeyed": False}
    assert not moved(film((-15, 0), last_size=4), YELLOW, "left")["kept"]


def test_a_picture_without_the_block_is_an_error():
    with pytest.raises(ValueError, match="--colour"):
        moved(np.zeros((2, 8, 8, 3), np.uint8), YELLOW, "left")


@pytest.mark.parametrize("prompt", ["push the block", "push it left, not right"])
def test_a_prompt_without_one_direction_is_an_error(prompt):
    with pytest.raises(ValueError, match="--direction"):
        direction_of(prompt)


def test_the_mirrored_prompt():
    assert swapped("Push left. Not Right, leftover!") == "Push right. Not Left, leftover!"
    assert direction_of("push the block left.") == "left"


@pytest.mark.parametrize("write", [write_svd, write_wan])
def test_probe_on_a_real_pipeline(write, tmp_path, capsys):
    iio.imwrite(tmp_path / "start.png", film((0, 0))[0, :32, 16:48])
    code = main(
        [
            "probe-zero-shot",
            "--base",
            str(write(tmp_path / "base")),
            "--image",
            str(tmp_path / "start.png"),
            "--prompt",
            "push the block left",
            "--n",
            "1",
            "--frames",
            "5",
            "--steps",
            "1",
            "--device",
            "cpu",
            "--out",
            str(tmp_path / "out"),
        ]
    )
    assert code == 0, capsys.readouterr().err
    result = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert result["prompted"]["obeyed"]["n"] == result["mirrored"]["moved"]["n"] == 1
    assert result["takes_a_prompt"] is (write is write_wan)
    assert iio.imread(tmp_path / "out" / "prompted.mp4").shape == (5, 32, 32, 3)
