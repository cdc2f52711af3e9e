"""Small policies with random weights as lerobot saves them, and what they do; run by a Python that has lerobot.

    PYTHON tests/lerobot_policies.py OUT

Folders OUT/act and OUT/diffusion, and OUT/KIND.npz with frames uint8 [T, B, 64, 64, 3], states float32 [T, B, 3] and
lerobot's own actions float32 [T, B, 2].
"""

import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

KINDS = {
    "act": {
        "chunk_size": 4,
        "n_action_steps": 4,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "latent_dim": 4,
        "n_vae_encoder_layers": 1,
        "pretrained_backbone_weights": None,
    },
    "diffusion": {
        "down_dims": (16, 32),
        "crop_shape": (56, 56),
        "num_inference_steps": 2,
        "noise_scheduler_type": "DDIM",
        "spatial_softmax_num_keypoints": 4,
        "diffusion_step_embed_dim": 16,
        "n_groups": 4,
    },
}
CAMERA, STATE = "observation.images.main", "observation.state"


def write(out: Path, kind: str) -> None:
    torch.manual_seed(0)
    config = make_policy_config(
        kind,
        device="cpu",
        push_to_hub=False,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        input_features={
            CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 64, 64)),
            STATE: PolicyFeature(FeatureType.STATE, (3,)),
        },
        **KINDS[kind],
    )
    policy = get_policy_class(kind)(config).eval()
    stats = {
        name: {
            "mean": torch.full(shape, 0.3),
            "std": torch.full(shape, 0.2),
            "min": torch.full(shape, -0.8),
            "max": torch.full(shape, 0.9),
        }
        for name, shape in ((CAMERA, (3, 1, 1)), (STATE, (3,)), ("action", (2,)))
    }
    before, after = make_pre_post_processors(config, dataset_stats=stats)
    for part in (policy, before, after):
        part.save_pretrained(out / kind)
    rng, actions = np.random.default_rng(0), []
    frames = rng.integers(0, 256, (6, 2, 64, 64, 3), dtype=np.uint8)
    states = rng.uniform(-1, 1, (6, 2, 3)).astype(np.float32)
    policy.reset()
    for frame, state in zip(frames, states):
        seen = {CAMERA: torch.from_numpy(frame).permute(0, 3, 1, 2) / 255, STATE: torch.from_numpy(state)}
        with torch.inference_mode():
            actions.append(after(policy.select_action(before(seen))).numpy())
    np.savez(out / f"{kind}.npz", frames=frames, states=states, actions=np.stack(actions))


if __name__ == "__main__":
    for each in KINDS:
        write(Path(sys.argv[1]), each)
