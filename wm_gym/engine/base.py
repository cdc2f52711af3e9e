"""What is one step of a world, and what must every back-end offer?"""

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from wm_gym.engine import KNOWN
from wm_gym.engine.artefacts import digest_of
from wm_gym.models.tokenizer import to_float, to_uint8
from wm_gym.models.transition import Sampling, condition, transition
from wm_gym.worlds.starts import StartBank
from wm_gym.worlds.world import World

STEP_VERSION = 4
"""Of what `WorldStep` takes and gives, and of the names it has there; kept artefacts of another are not used."""
M = TypeVar("M", bound=nn.Module)
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class WorldStep(nn.Module):
    """The whole step as one pure function, so that a back-end can compile it whole.

    (first [B, C, h, w], proprioception [B, P], error_distribution [B, bins, h, w], action [B, A], noise [B, C, h, w],
    *memory) -> (proprioception', error_distribution', reward [B, R], success [B], terminated [B], uncertainty
    [B, h, w], *memory', frame uint8 [B, H, W, 3] if decode); the memory's tensors come in the order of the dynamics'
    `memory_keys`.
    precision: "fp32", or "bf16" or "fp16" for the convolutions and products; what goes in and out is float32 all the
    same, and poses are integrated in it.
    """

    def __init__(self, world: World, decode: bool = True, precision: str = "fp32"):
        super().__init__()
        self.tokenizer, self.dynamics, self.heads = world.tokenizer, world.dynamics, world.heads
        self.uncertainty = world.uncertainty
        self.sampling = Sampling(world.spec.sampling_steps, world.spec.guidance_scale)
        self.decode, self.dtype = decode, TYPES[precision]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The step."""
        if self.dtype == torch.float32:
            return self._step(*inputs)
        with torch.autocast(inputs[0].device.type, self.dtype):
            return self._step(*inputs)

    def _step(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        _, proprioception, _, action, *_ = inputs
        return self.draw(self.dynamics.next_pose(proprioception, action), *inputs)

    def draw(self, next_pose: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The step after the pose has been integrated."""
        first, proprioception, error_distribution, action, noise, *memory = inputs
        before = dict(zip(self.dynamics.memory_keys, memory))
        latent, features, *outcome = self.predict(next_pose, first, proprioception, action, noise, before)
        newest = before["latents"][:, -1]
        error_distribution = self.uncertainty(error_distribution, features, latent, newest, first).exp()
        expected_error = self.uncertainty.expected_error(error_distribution)
        after = self.dynamics.append(before, latent, first)
        frame = [to_uint8(self.tokenizer.decode(latent))] if self.decode else []
        memory = [after[key] for key in self.dynamics.memory_keys]
        return next_pose, error_distribution, *outcome, expected_error, *memory, *frame

    def predict(
        self,
        next_pose: Tensor,
        first: Tensor,
        proprioception: Tensor,
        action: Tensor,
        noise: Tensor,
        before: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The next latent [B, C, h, w], the features it was read from, reward [B, R], success [B], terminated [B]."""
        given = condition(self.dynamics, proprioception, action, next_pose)
        made = transition(self.dynamics, before, first, given, noise, self.sampling)
        read = self.heads(made.latent, before["latents"][:, -1], first, given.vector)
        return made.latent, made.features, *self.heads.outcome_of(read)


def step_inputs(world: World, batch: int) -> tuple[Tensor, ...]:
    """Zeros in the shapes that `WorldStep` takes, for a batch size."""
    spec = world.spec
    latent, memory = tuple(spec.latent_shape), world.dynamics.memory_shapes().values()
    shapes = [latent, (spec.proprioception_dim,), world.uncertainty.shape(), (len(spec.action_low),), latent, *memory]
    return tuple(torch.zeros(batch, *shape) for shape in shapes)


class Engine:
    """One world on one back-end; stateless: the world state goes in and comes out as a dict of tensors.

    Environments of several threads may share one: each call's results are its own.

    A state: "first" [B, C, h, w], "proprioception" [B, P] and the dynamics' memory, in it "latents" [B, K, C, h, w],
    newest last.
    """

    name = "base"

    def __init__(self, world: World, device: str, decode: bool, precision: str = "fp32"):
        self.world, self.device, self.decode, self.precision = world, torch.device(device), decode, precision
        self.noise_shape = tuple(world.spec.latent_shape)
        self.encoded: tuple[StartBank | None, dict[int, Any]] = (None, {})
        """A bank of starts, and what `wm_gym.engine.shared` keeps of it by row."""
        self._made: dict[Hashable, Any] = {}
        self._making = threading.Lock()

    @classmethod
    def best_precision(cls) -> str:
        """The precision that "auto" takes."""
        return KNOWN[cls.name].precisions[0]

    def _here(self, module: M) -> M:
        """The module on this device; diffusers' own `to` imports half of torch.compile to find that it is there."""
        return module if next(module.parameters()).device == self.device else module.to(self.device)

    @torch.inference_mode()
    def encode(self, frames: np.ndarray, proprioception: np.ndarray | None = None) -> dict[str, Tensor]:
        """The world state at the end of clips.

        A clip shorter than the context is padded with its first frame, which is pinned.

        Args:
            frames: uint8 [B, T, H, W, 3].
            proprioception: [B, T, P]; read from the last picture if None.

        Raises:
            ValueError: Where the world gives numbers that are not finite.
        """
        world, k = self.world, self.world.spec.context_frames
        clip = torch.from_numpy(np.array(frames)).to(self.device)  # a copy: the bank of starts is read-only
        tokenizer, recent = self._here(world.tokenizer), clip[:, -k:]
        # one slot at a time: the latent of a picture must not depend on its neighbours in the batch
        latents = torch.stack([tokenizer.encode(to_float(torch.cat([a[:1], b]))) for a, b in zip(clip, recent)])
        padding = latents[:, :1].expand(-1, max(0, k - clip.shape[1]), -1, -1, -1)
        latents = torch.cat([latents[:, :1], padding, latents[:, 1:]], dim=1)
        if proprioception is not None:
            pose = torch.as_tensor(proprioception[:, -1], dtype=torch.float32, device=self.device)
        elif world.spec.proprioception_dim:
            heads, code = self._here(world.heads), self._here(world.dynamics).pose_code
            pose = torch.cat([code.decode(heads.estimate_pose(z[-1:])) for z in latents])
        else:
            pose = torch.zeros(len(clip), 0, device=self.device)
        first, dynamics = latents[:, 0].clone(), self._here(world.dynamics)
        memories = [dynamics.remember(z[None, 1:], z[None, 0]) for z in latents]
        memory = {key: torch.cat([m[key] for m in memories]) for key in memories[0]}
        error_distribution = self._here(world.uncertainty).none(len(first))
        if not all(bool(values.isfinite().all()) for values in (latents, pose, *memory.values())):
            raise world.not_finite("latents or poses of a picture")
        return {"first": first, "proprioception": pose.clone(), "error_distribution": error_distribution, **memory}

    @torch.inference_mode()
    def render(self, state: dict[str, Tensor]) -> Tensor:
        """The frames uint8 [B, H, W, 3] of a state, as the tokenizer reconstructs them; ValueError for NaN."""
        tokenizer = self._here(self.world.tokenizer)
        drawn = torch.cat([tokenizer.decode(z[-1:]) for z in state["latents"]])
        if not bool(drawn.isfinite().all()):
            raise self.world.not_finite("pictures")
        return to_uint8(drawn)

    def step(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One step of the world.

        Args:
            state: Of `encode` or of the step before.
            action: float32 [B, A].
            noise: Standard normal float32 [B, C, h, w].

        Returns:
            The next state, and "frame" uint8 [B, H, W, 3] (absent with decode=False), "reward" [B, R], "success" [B]
            in [0, 1], "uncertainty" [B, h, w], "proprioception" [B, P], "latent" [B, C, h, w].
        """
        keys, first = self.world.dynamics.memory_keys, state["first"]
        before = (state[key] for key in ("proprioception", "error_distribution"))
        outputs = self.compile(len(first))(first, *before, action, noise, *(state[key] for key in keys))
        pose, error_distribution, reward, success, terminated, uncertainty, *rest = outputs
        memory = dict(zip(keys, rest))
        out = {
            "reward": reward,
            "success": success,
            "terminated": terminated,
            "uncertainty": uncertainty,
            "proprioception": pose,
            "latent": memory["latents"][:, -1],
        }
        if self.decode:
            out["frame"] = rest[len(keys)]
        return {"first": first, "proprioception": pose, "error_distribution": error_distribution, **memory}, out

    @torch.inference_mode()
    def imagine(
        self, state: dict[str, Tensor], actions: Tensor, noise: Tensor, uncertainty: bool = True
    ) -> dict[str, Tensor]:
        """The outcome of sequences of actions float32 [B, T, A] under noise [B, T, C, h, w], without pictures.

        Returns:
            "reward" [B, T, R], "success" [B, T] in [0, 1], "latent" [B, T, C, h, w], and, if it is asked for,
            "uncertainty" [B, T, h, w]: those of `step`, T times.
        """
        seen = []
        for t in range(actions.shape[1]):
            state, out = self.step(state, actions[:, t].contiguous(), noise[:, t].contiguous())
            seen.append(out)
        keys = ("reward", "success", "latent", *(["uncertainty"] if uncertainty else []))
        return {key: torch.stack([out[key] for out in seen], dim=1) for key in keys}

    def compile(self, batch: int) -> Callable[..., tuple[Tensor, ...]]:
        """Make a batch size ready, which otherwise happens at its first step; returns what runs its steps."""
        return self._once(batch, lambda: self._build(batch))

    def _once(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """What `build` gives, made by the first thread that asks for `key` while the others wait."""
        if key not in self._made:
            with self._making:
                if key not in self._made:
                    self._made[key] = build()
        return self._made[key]

    def made_from(self, batch: int) -> dict[str, Any]:
        """All that a compiled step of a batch size depends on, beside the back-end and its version."""
        return {
            "weights": {name: digest_of(module) for name, module in self.world.modules().items()},
            "sampling_steps": self.world.spec.sampling_steps,
            "guidance_scale": self.world.spec.guidance_scale,
            "decode": self.decode,
            "batch": batch,
            "precision": self.precision,
            "torch": torch.__version__,
            "step": STEP_VERSION,
        }

    def _build(self, batch: int) -> Callable[..., tuple[Tensor, ...]]:
        """`WorldStep` for a batch size, as this back-end runs it."""
        raise NotImplementedError
