"""How is a small network fitted to examples? AdamW under a one-cycle learning rate; the one loop for it."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

WARM = 0.05


def fit_supervised(
    module: nn.Module,
    loss: Callable[[int], Tensor],
    updates: int,
    rate: float,
    weight_decay: float = 1e-4,
    largest_gradient: float | None = None,
    name: str = "",
    progress: bool = True,
) -> None:
    """Minimise a loss over the parameters of a network, in place.

    Args:
        module: The network; its mode (`train`, `eval`) is the caller's matter.
        loss: The loss of an update, by the update's number from 0; it draws the batch itself.
        updates: How many, at least 1.
        rate: The highest learning rate (`one_cycle`).
        weight_decay: Of AdamW.
        largest_gradient: The norm that gradients are clipped to; None for no clipping.
        name: What the progress bar says.
        progress: Whether there is a bar.

    Raises:
        ValueError: For fewer than 1 update.
    """
    optimizer = AdamW(module.parameters(), lr=rate, weight_decay=weight_decay)
    schedule = one_cycle(optimizer, rate, updates)
    for update in tqdm(range(updates), desc=name, mininterval=2.0, disable=not progress):
        value = loss(update)
        optimizer.zero_grad()
        value.backward()
        if largest_gradient is not None:
            clip_grad_norm_(module.parameters(), largest_gradient)
        optimizer.step()
        schedule.step()


def one_cycle(optimizer: Optimizer, rate: float, updates: int) -> OneCycleLR:
    """torch's one-cycle schedule: up to `rate` in a twentieth of the updates, then down to nothing.

    Raises:
        ValueError: For fewer than 1 update.
    """
    if updates < 1:
        raise ValueError(f"updates is {updates}, expected at least 1")
    warm = WARM if updates * WARM != 1 else WARM * 1.01  # where one update exactly is warm, torch divides by zero
    return OneCycleLR(optimizer, rate, total_steps=updates, pct_start=warm)
