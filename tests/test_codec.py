"""Do elements of any space go through their numbers and back?"""

import json

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import batch_space
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_gym.common.codec import SpaceCodec, one_of_batch, picture_layout
from wm_gym.common.space_data import UnsupportedSpace, from_data, to_data

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def boxes(draw):
    dtype = draw(st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "int8"]))
    shape = draw(SHAPES)
    if np.dtype(dtype).kind != "f":
        info = np.iinfo(dtype)
        low = draw(st.integers(max(info.min, -1000), 100))
        return spaces.Box(low, draw(st.integers(low + 1, min(info.max, 1100))), shape, np.dtype(dtype).type)
    low, high = draw(st.sampled_from([(-np.inf, np.inf), (-1.5, 2.0), (0, np.inf), (-np.inf, 3.0), (-1e6, 1e6)]))
    return spaces.Box(low, high, shape, np.dtype(dtype).type)


LEAVES = st.one_of(
    boxes(),
    st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 6), st.integers(-3, 3)),
    st.builds(lambda n: spaces.MultiDiscrete(n), st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.builds(spaces.MultiBinary, st.one_of(st.integers(1, 4), st.just([2, 3]))),
)
SPACES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=3).map(spaces.Dict),
        st.lists(inner, max_size=3).map(spaces.Tuple),
    ),
    max_leaves=5,
)


@given(SPACES, st.integers(0, 2**31 - 1))
@settings(max_examples=150, deadline=None)
def test_elements_come_back(space, seed):
    space.seed(seed)
    codec, element = SpaceCodec(space), space.sample()
    numbers = codec.numbers(element)
    assert numbers.shape == (codec.size,) == (len(codec.names),)
    back = codec.element(numbers)
    assert space.contains(back), (space, back)
    again = codec.numbers(back)
    np.testing.assert_allclose(again, numbers, rtol=1e-6)


@given(SPACES, st.integers(0, 2**31 - 1))
@settings(max_examples=100, deadline=None)
def test_batches_are_gymnasiums(space, seed):
    batched = batch_space(space, 3)
    batched.seed(seed)
    codec = SpaceCodec(space)
    numbers = codec.batch_numbers(batched.sample(), 3)
    batch = codec.batch(numbers)
    assert batched.contains(batch), (space, batch)
    for i in range(3):
        assert data_equivalence(one_of_batch(batch, i), codec.element(numbers[i]))


@given(SPACES)
@settings(max_examples=150, deadline=None)
def test_spaces_go_through_json(space):
    assert from_data(json.loads(json.dumps(to_data(space), allow_nan=False))) == space


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 64, 3), (64, 64, 3, 1, "HWC")),
        ((3, 48, 64), (48, 64, 3, 1, "CHW")),
        ((84, 84), (84, 84, 1, 1, "HW")),
        ((84, 84, 1), (84, 84, 1, 1, "HWC")),
        ((4, 84, 84), (84, 84, 1, 4, "CHW")),
        ((64, 64, 6), (64, 64, 3, 2, "HWC")),
        ((4, 84, 84, 3), (84, 84, 3, 4, "KHWC")),
    ],
)
def test_pictures_of_every_layout_come_back(shape, expected):
    space = spaces.Box(0, 255, shape, np.uint8)
    layout = picture_layout(space)
    assert (layout.height, layout.width, layout.channels, layout.frames, layout.axes) == expected
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (layout.frames, layout.height, layout.width, 3), dtype=np.uint8)
    if layout.channels == 1:
        frames[:] = frames[..., :1]
    codec = SpaceCodec(space)
    picture = codec.element(np.zeros(0, np.float32), frames)
    assert space.contains(picture)
    assert (codec.frame(picture) == frames[-1]).all()
    assert codec.size == 0


def test_a_small_grid_of_numbers_is_no_picture():
    space = spaces.Box(0, 255, (7, 7, 3), np.uint8)
    assert picture_layout(space) is None
    assert SpaceCodec(space).size == 147 == len(SpaceCodec(space).whole)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(3)),
        spaces.Graph(spaces.Box(0, 1, (2,)), None),
        spaces.Dict({"deep": spaces.Tuple([spaces.Text(3)])}),
        spaces.Dict({i: spaces.Box(0, 255, (32, 32, 3), np.uint8) for i in "ab"}),
    ],
)
def test_what_is_not_supported_is_named(space):
    with pytest.raises(UnsupportedSpace, match="wrap|Wrap"):
        SpaceCodec(space)


def test_the_part_is_named():
    with pytest.raises(UnsupportedSpace, match=r"the observation\['deep'\]\[0\] is Text"):
        SpaceCodec(spaces.Dict({"deep": spaces.Tuple([spaces.Text(3)])}), part="the observation")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"type": "Graph"},
        {"type": "Box"},
        {"type": "Box", "shape": [10**9], "dtype": "float32", "low": 0, "high": 1},
        {"type": "Box", "shape": [2], "dtype": "object", "low": 0, "high": 1},
        {"type": "Box", "shape": [2], "dtype": "float32", "low": [1, 2, 3], "high": 1},
        {"type": "Discrete", "n": 0, "start": 0, "dtype": "int64"},
        {"type": "Discrete", "n": 10**12, "start": 0, "dtype": "int64"},
        {"type": "MultiDiscrete", "nvec": [-1], "start": [0], "dtype": "int64"},
        {"type": "Dict", "spaces": 3},
        {"type": "Tuple", "spaces": [{"type": "Text"}]},
    ],
)
def test_damaged_data_is_named(data):
    with pytest.raises(ValueError, match="spec.yaml: observation"):
        from_data(data, "spec.yaml: observation")


def test_data_nested_too_deep_is_refused():
    data = {"type": "Discrete", "n": 2, "start": 0, "dtype": "int64"}
    for _ in range(50):
        data = {"type": "Tuple", "spaces": [data]}
    with pytest.raises(ValueError, match="expected the data of a space"):
        from_data(data)
