"""How does a world go one step on? The one transition that training, engines, the pipeline and signals share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from wm_gym.models.sampling import denoiser, sample_euler

if TYPE_CHECKING:
    from wm_gym.models import Dynamics


class Sampling(NamedTuple):
    """How a latent is drawn from noise."""

    steps: int = 1
    """Evaluations of the flow, at least 1."""
    guidance_scale: float = 1.0
    """Of classifier-free guidance over the actions; 1 for none (`denoiser`)."""


ONE_STEP = Sampling()


class Condition(NamedTuple):
    """What a step is drawn under, for a batch of B."""

    vector: Tensor
    """The coded action, pose and next pose [B, V]."""
    pose: Tensor
    """The proprioception after the step [B, P]."""


class Transition(NamedTuple):
    """What one step of the dynamics gives, for a batch of B."""

    latent: Tensor
    """The next latent [B, C, h, w]."""
    features: Tensor
    """The features [B, F, h, w] that it was read from."""
    condition: Condition


def condition(
    dynamics: Dynamics, pose: Tensor, action: Tensor, next_pose: Tensor | None = None, dropped: Tensor | None = None
) -> Condition:
    """The condition of a step, with the pose after it, p' = p + f(p, a).

    Args:
        dynamics: A dynamics network.
        pose: Proprioception [B, P].
        action: Actions [B, A].
        next_pose: The pose after the step [B, P], where it is known already.
        dropped: Bool [B], which of the batch get the null condition (the dropout of classifier-free guidance).
    """
    next_pose = dynamics.next_pose(pose, action) if next_pose is None else next_pose
    vector = dynamics.encode_condition(pose, next_pose, action)
    return Condition(vector if dropped is None else dynamics.forget(vector, dropped), next_pose)


def transition(
    dynamics: Dynamics,
    memory: dict[str, Tensor],
    first: Tensor,
    given: Condition,
    noise: Tensor,
    sampling: Sampling = ONE_STEP,
) -> Transition:
    """One step of the dynamics: the next latent, denoised under a condition.

    Args:
        dynamics: A dynamics network.
        memory: Its memory of the frames so far (`remember`, `append`); not changed.
        first: The pinned first latent [B, C, h, w].
        given: Of `condition`.
        noise: Standard normal noise [B, C, h, w].
        sampling: How the latent is drawn.
    """
    denoise = denoiser(dynamics, memory, first, given.vector, sampling.guidance_scale)
    latent, features = sample_euler(denoise, noise, sampling.steps)
    return Transition(latent, features, given)


def roll(
    dynamics: Dynamics,
    memory: dict[str, Tensor],
    first: Tensor,
    pose: Tensor,
    actions: Tensor,
    noise: Iterable[Tensor],
    dropped: Tensor | None = None,
    sampling: Sampling = ONE_STEP,
) -> Iterator[tuple[Transition, dict[str, Tensor]]]:
    """A closed loop of transitions, each from what the one before drew.

    Args:
        dynamics: A dynamics network.
        memory: Its memory before the first step.
        first: The pinned first latent [B, C, h, w].
        pose: Proprioception [B, P] before the first step.
        actions: Actions [B, n, A].
        noise: Tensors [B, C, h, w], one taken a step.
        dropped: As `condition` takes it.
        sampling: How each latent is drawn.

    Yields:
        Each transition, and the memory that it was made from.
    """
    made = None
    for action, drawn in zip(actions.unbind(1), noise):
        if made is not None:
            memory, pose = dynamics.append(memory, made.latent.to(first), first), made.condition.pose
        made = transition(dynamics, memory, first, condition(dynamics, pose, action, None, dropped), drawn, sampling)
        yield made, memory
