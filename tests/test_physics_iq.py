"""Are Physics-IQ's metrics those of the paper? Masks against OpenCV's operations, numbers against known motions."""

import numpy as np
import pytest

from wm_gym.evaluation.metrics.physics_iq import compare, motion_masks, score


def film(start=8, speed=1, steps=30, size=64, seed=0, noise=2):
    """A bright square that slides to the right over a noisy ground."""
    rng = np.random.default_rng(seed)
    frames = np.full((steps, size, size, 3), 60, np.int64) + rng.integers(-noise, noise + 1, (steps, size, size, 3))
    for t, frame in enumerate(frames):
        x = start + speed * t
        frame[20:32, x : x + 12] = (220, 180, 40)
    return frames.clip(0, 255).astype(np.uint8)


def masks_by_opencv(frames):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is what the masks are compared with")
    masks, kernel = [np.zeros(frames.shape[1:3], bool)], np.ones((5, 5), np.uint8)
    grey = [cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (5, 5), 0) for frame in frames]
    average = grey[0].astype(float)
    for now in grey[1:]:
        cv2.accumulateWeighted(now, average, 0.3)
        moved = (cv2.absdiff(now, cv2.convertScaleAbs(average)) > 10).astype(np.uint8)
        moved = cv2.morphologyEx(cv2.morphologyEx(moved, cv2.MORPH_OPEN, kernel), cv2.MORPH_CLOSE, kernel)
        masks.append(moved.astype(bool))
    return np.stack(masks)


@pytest.mark.parametrize(
    "frames",
    [
        film(),
        film(start=0, speed=2, steps=26, noise=12),
        film(start=50, speed=0),
        np.random.default_rng(1).integers(0, 256, (12, 40, 56, 3), dtype=np.uint8),
        np.random.default_rng(2).integers(0, 2, (12, 8, 9, 1), dtype=np.uint8).repeat(6, 1).repeat(6, 2).repeat(3, 3)
        * 90,
    ],
    ids=["slides", "fast and noisy", "still", "noise", "flicker"],
)
def test_masks_are_opencvs(frames):
    assert (motion_masks(frames) == masks_by_opencv(frames)).all()


def test_the_masks_follow_what_moves():
    masks = motion_masks(film())
    assert not masks[0].any() and masks[15, 20:32, 23:35].mean() > 0.3 and not masks[:, 40:].any()


def test_a_video_is_like_itself_and_unlike_another_motion():
    truth = film()
    same = compare(truth, truth)
    assert same == {"spatiotemporal_iou": 1, "spatial_iou": 1, "weighted_spatial_iou": 1, "mse": 0}
    late, frozen = compare(film(speed=2, steps=30, start=0), truth), compare(truth[:1].repeat(30, 0), truth)
    assert 0 < late["spatiotemporal_iou"] < late["spatial_iou"] < 1 and late["mse"] > 0
    assert frozen["spatial_iou"] == frozen["weighted_spatial_iou"] == 0
    still = film(speed=0, noise=0)
    assert compare(still, still)["weighted_spatial_iou"] == 1


def test_the_score_is_100_at_the_level_of_another_take_and_orders_worse_worlds():
    truth = film()
    variance = [compare(film(start=9, seed=5), truth)]
    good, still = (score([compare(made, truth)], variance) for made in (film(start=9, seed=6), film(speed=0)))
    assert good == pytest.approx(100, abs=1) and still < 10
    by_hand = {"spatiotemporal_iou": 0.2, "spatial_iou": 0.3, "weighted_spatial_iou": 0.1, "mse": 0.01}
    takes = {"spatiotemporal_iou": 0.4, "spatial_iou": 0.6, "weighted_spatial_iou": 0.5, "mse": 0.002}
    assert score([by_hand], [takes]) == pytest.approx(100 * ((0.5 + 0.5 + 0.2) / 3 - 0.008))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: motion_masks(np.zeros((3, 8, 8, 3))), r"float64 \[3, 8, 8, 3\]; expected uint8"),
        (lambda: compare(film(), film(steps=29)), "expected the same shape"),
        (lambda: score([], []), "at least one of each"),
        (lambda: score([compare(film(), film())], [compare(film(speed=0), film())]), "never move in the same place"),
    ],
)
def test_what_is_no_measurement_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
