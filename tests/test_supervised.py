"""The one loop of supervised fitting, and the options of a training."""

import pytest
import torch
from torch import nn

from wm_gym.training import train
from wm_gym.training.supervised import fit_supervised, one_cycle


def test_it_finds_the_least_squares_line():
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 32)[:, None]
    line, seen = nn.Linear(1, 1), []

    def loss(update: int) -> torch.Tensor:
        seen.append(update)
        return (line(x) - (3 * x - 1)).square().mean()

    fit_supervised(line, loss, 300, rate=0.1, weight_decay=0.0, largest_gradient=1.0, progress=False)
    assert seen == list(range(300))
    assert line.weight.item() == pytest.approx(3, abs=0.02) and line.bias.item() == pytest.approx(-1, abs=0.02)


@pytest.mark.parametrize("updates", [1, 2, 19, 20, 21, 40])
def test_any_number_of_updates_has_a_schedule(updates):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    schedule, rates = one_cycle(optimizer, 0.1, updates), []
    for i in range(updates):
        optimizer.step()
        rates.append(schedule.get_last_lr()[0])
        if i < updates - 1:
            schedule.step()
    assert all(0 < rate <= 0.1 for rate in rates) and rates[-1] < 0.01
    with pytest.raises(ValueError, match="updates is 0, expected at least 1"):
        one_cycle(optimizer, 0.1, 0)


def test_an_unknown_option_of_a_training_is_named(tmp_path):
    with pytest.raises(TypeError, match="unknown option 'presets'; did you mean 'preset'"):
        train(tmp_path / "data", tmp_path / "world", presets="tiny")
    assert not list(tmp_path.iterdir())
