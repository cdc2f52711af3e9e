"""Are integers that take few values learned as choices, so that what jumps does not stay where it is?"""

import json

import numpy as np
import pytest
import torch
from gymnasium import spaces

from wm_gym.common.space_data import to_data
from wm_gym.engine import make_engine
from wm_gym.models.integrator import Integrator, Levels, levels_of
from wm_gym.training.build import new_world
from wm_gym.worlds.world import World

CELLS, HERE, FREE = 12, 10, 1


def ring(place: int) -> np.ndarray:
    """A ring of cells, all free but that where the agent is; 12 places, the last of a number that never changes."""
    state = np.full(CELLS + 1, FREE, np.float32)
    state[place % CELLS], state[CELLS] = HERE, 7
    return state


def states() -> torch.Tensor:
    return torch.from_numpy(np.stack([ring(i) for i in range(CELLS)]))


def an_integrator() -> Integrator:
    torch.manual_seed(0)
    levels = {str(place): values for place, values in levels_of(states().numpy(), range(CELLS + 1)).items()}
    sizes = {"width": 64, "layers": 3, "groups": [], "whole": list(range(CELLS + 1)), "levels": levels}
    again = json.loads(json.dumps(sizes, sort_keys=True))  # "10" comes before "2" in a saved config.json
    return Integrator(again, CELLS + 1, 1, CELLS + 1)


def test_what_never_changes_and_what_takes_many_values_is_no_choice():
    numbers = np.stack([np.arange(100), np.arange(100) % 3, np.zeros(100)], 1)
    assert levels_of(numbers, [0, 1, 2]) == {1: [0.0, 1.0, 2.0]}


def test_places_keep_their_order():
    assert an_integrator().levels.places == list(range(CELLS))


def test_levels_there_and_back():
    levels = Levels({0: [-1.0, 4.0, 9.0], 2: [1.0, 10.0]}, 3)
    state = torch.tensor([[4.0, 0.3, 10.0], [-1.0, 0.5, 1.0]])
    known = levels.encode(state)
    assert known.tolist() == [[0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]
    other = torch.tensor([[7.0, 0.3, 7.0], [7.0, 0.5, 7.0]])
    assert torch.equal(levels.decode(other, known), state)
    unseen = torch.tensor([[5.5, 0.0, 2.0]])
    assert levels.which(unseen).tolist() == [[1, 0]]  # the nearest


def test_an_agent_on_a_ring_of_cells_is_learned_exactly():
    net, all_states = an_integrator(), states()
    before = all_states.repeat(2, 1)
    action = torch.cat([torch.ones(CELLS, 1), -torch.ones(CELLS, 1)])
    after = torch.cat([all_states.roll(-1, 0), all_states.roll(1, 0)])
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)

    def made():
        change, logits = net(before, before / 5, action)
        return before + 0 * change, logits

    assert (net.snap(*made()) == before).all()  # untrained, it stays
    for _ in range(300):
        _, logits = made()
        chosen = net.levels.padded(logits).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(chosen, net.levels.which(after).flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.equal(net.snap(*made()), after)


@pytest.mark.parametrize(
    "levels",
    [{"0": [1.0]}, {"0": [3.0, 1.0]}, {"1": [0.0, 1.0]}, {"0": list(range(17))}, {"x": [0, 1]}, [1], {"0": [0, 1e39]}],
)
def test_levels_that_a_config_cannot_have_are_refused(levels):
    sizes = {"width": 8, "layers": 2, "groups": [], "whole": [0], "levels": levels}
    with pytest.raises(ValueError, match="integrator"):
        Integrator(sizes, 2, 1, 2)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_another_back_end_and_a_saved_world_give_the_same_levels(tmp_path, tiny_spec, backend):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 4, (64, 3)).astype(np.float32)
    tiny_spec.observation_space = to_data(spaces.Box(0, 9, (3,), np.int64))
    world = new_world(tiny_spec, "tiny", numbers=numbers)
    assert world.dynamics.pose_net.levels.places == [0, 1, 2]
    torch.nn.init.normal_(world.dynamics.pose_net.net[-1].weight, std=5.0)
    frames = rng.integers(0, 255, (8, 1, 64, 64, 3), dtype=np.uint8)
    after = []
    for name in ("torch", backend):
        engine = make_engine(world, name, "cpu", False)
        state = engine.encode(frames, numbers[:8, None])
        state, _ = engine.step(state, torch.full((8, 3), 0.5), torch.zeros(8, *engine.noise_shape))
        after.append(state["proprioception"].numpy())
    saved = World.from_pretrained(world.save_pretrained(tmp_path / "world"))
    moves = torch.from_numpy(numbers[:8]), torch.full((8, 3), 0.5)
    assert (saved.dynamics.next_pose(*moves).detach().numpy() == after[0]).all()
    assert (after[0] == after[1]).all() and (after[0] != numbers[:8]).any()
    assert np.isin(after[0], [0, 1, 2, 3]).all()
