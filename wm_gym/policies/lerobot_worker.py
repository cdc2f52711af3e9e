"""What runs a policy of lerobot? This script, in lerobot's own environment: requests on stdin, actions on stdout.

Each message is 8 bytes of length and an npz without pickles. A request is `reset` (bool) and an array a feature:
pictures uint8 [B, H, W, 3], others float32 [B, ...]; a reply is `action` float32 [B, A] or `error`. It imports
nothing of wm_gym, and ends with its input.
"""

import io
import os
import sys
import traceback
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

LENGTH = 8  # bytes, big-endian


def send(pipe: IO[bytes], **arrays: Any) -> None:
    """Write a message."""
    body = io.BytesIO()
    np.savez(body, **arrays)
    pipe.write(len(body.getvalue()).to_bytes(LENGTH, "big") + body.getvalue())
    pipe.flush()


def receive(pipe: IO[bytes]) -> dict[str, np.ndarray] | None:
    """A message as a dict of arrays; None at the end."""
    size = pipe.read(LENGTH)
    if len(size) < LENGTH:
        return None
    with np.load(io.BytesIO(pipe.read(int.from_bytes(size, "big"))), allow_pickle=False) as arrays:
        return dict(arrays)


class Policy:
    """A pretrained policy with what comes before and after it (within it, up to lerobot 0.3)."""

    def __init__(self, folder: str, device: str):
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies import factory

        config = PreTrainedConfig.from_pretrained(folder)
        config.device, config.pretrained_path = device, Path(folder)
        self.policy = factory.get_policy_class(config.type).from_pretrained(folder, config=config)
        self.policy.eval()
        self.device, self.features = device, config.input_features
        self.before = self.after = lambda values: values
        if hasattr(factory, "make_pre_post_processors"):
            self.before, self.after = factory.make_pre_post_processors(
                config, pretrained_path=folder, preprocessor_overrides={"device_processor": {"device": device}}
            )

    def act(self, reset: bool, **arrays: np.ndarray) -> np.ndarray:
        """Actions float32 [B, A] for features by name; reset: their episodes begin here."""
        import torch

        if reset:
            self.policy.reset()
        with torch.inference_mode():
            seen = {name: self.tensor(name, values) for name, values in arrays.items()}
            action = self.after(self.policy.select_action(self.before(seen)))
        return action.float().cpu().numpy()

    def tensor(self, name: str, values: np.ndarray) -> "torch.Tensor":
        """Pictures as float [B, 3, H, W] in [0, 1] of the policy's size, others as they are."""
        import torch

        tensor = torch.from_numpy(values).to(self.device)
        if values.dtype != np.uint8:
            return tensor
        tensor, size = tensor.permute(0, 3, 1, 2).float() / 255, tuple(self.features[name].shape[1:])
        if tuple(tensor.shape[2:]) != size:
            tensor = torch.nn.functional.interpolate(tensor, size, mode="bilinear", antialias=True).clamp(0, 1)
        return tensor


def main(folder: str, device: str) -> None:
    """Act until the input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to stderr
    try:
        policy = Policy(folder, device)
        send(replies)
        while (request := receive(sys.stdin.buffer)) is not None:
            send(replies, action=policy.act(bool(request.pop("reset")), **request))
    except Exception as error:
        traceback.print_exc()
        send(replies, error=np.array(f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
