"""How does a pretrained video model become a world? Stable Video Diffusion or Wan 2.2 with an adapter for actions."""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from wm_gym.common.hub import fetched, is_hub_id
from wm_gym.common.reading import read_mapping
from wm_gym.models.conditioning import Conditioned
from wm_gym.models.saving import ModelMixin, Network, made_from, read_index, register_to_config  # noqa: F401  see Network
from wm_gym.models.tokenizer import Tokenizer

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
PIPELINES = {"StableVideoDiffusionPipeline": "svd", "WanPipeline": "wan", "WanImageToVideoPipeline": "wan"}
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
"""The layers that get a LoRA."""
LARGEST_SIGMA = 700.0  # that Stable Video Diffusion was trained on
WORDS = 512  # tokens that Wan's text is padded to


def base_folder(base: str | Path) -> Path:
    """The folder of a diffusers pipeline: a path, or a Hub id, whose safetensors and configurations are fetched.

    FileNotFoundError where there is none.
    """
    folder = Path(base)
    if (folder / "model_index.json").is_file():
        return folder
    if folder.exists() or not is_hub_id(base):
        raise FileNotFoundError(
            f"{base} holds no model_index.json; expected the folder of a diffusers pipeline or a "
            "Hub id such as stabilityai/stable-video-diffusion-img2vid"
        )
    kinds = ["*.json", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model"]
    nowhere = f"the base model {str(base)!r} is no folder here; fetch it where there is a network: hf download {base}"
    return fetched(base, kinds, nowhere, ignore_patterns=["*fp16*"])


def family_of(folder: Path) -> str:
    """The family of a pipeline, "svd" or "wan"; ValueError for one that cannot become a world."""
    index = read_index(folder, ("diffusers", "transformers"))
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINES:
        raise ValueError(f"{folder} is a {name}; expected one of {', '.join(PIPELINES)}")
    if PIPELINES[name] == "wan" and not index.get("expand_timesteps"):
        raise ValueError(
            f"{folder} is a {name} without expand_timesteps, which cannot take clean frames of context; "
            "expected Wan 2.2 TI2V, e.g. Wan-AI/Wan2.2-TI2V-5B-Diffusers"
        )
    return PIPELINES[name]


class OnBase(Network):
    """A network around a frozen part `pretrained` of a pipeline, which is read from there and never written.

    Only what was added to it is trained, saved and hashed.
    """

    pretrained: Any
    """A diffusers model, of a class that the pipeline's folder names."""

    def _keep_base_out(self) -> None:
        self.pretrained.requires_grad_(False)

        def forgive(module: nn.Module, keys: Any) -> None:
            keys.missing_keys[:] = [key for key in keys.missing_keys if not self._of_base(key)]

        self.register_load_state_dict_post_hook(forgive)

    @staticmethod
    def _of_base(key: str) -> bool:
        return ".pretrained." in f".{key}" and "lora_" not in key

    def added(self) -> list[nn.Parameter]:
        """The parameters that are not the base's."""
        return [p for name, p in self.named_parameters() if not self._of_base(name)]

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """As nn.Module's, of what was added alone."""
        for parameter in self.added():
            parameter.requires_grad_(requires_grad)
        return self

    def train(self, mode: bool = True) -> Self:
        """As nn.Module's; the base stays as it is used."""
        super().train(mode)
        self.pretrained.eval()
        return self

    def to(  # type: ignore[override]  # one signature for its overloads
        self, *args: Any, memory_format: torch.memory_format | None = None, **kwargs: Any
    ) -> Self:
        """As nn.Module's; video models have five-dimensional weights, which keep torch's own memory layout."""
        return super().to(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # likewise
        """As nn.Module's, of what was added alone."""
        state = super().state_dict(*args, **kwargs)
        for key in filter(self._of_base, list(state)):
            del state[key]
        return state

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:  # type: ignore[override]  # fewer options
        """Write the configuration and what was added, as safetensors."""
        from safetensors.torch import save_file

        self.save_config(folder)
        tensors = {key: value.cpu().contiguous() for key, value in self.state_dict().items()}
        save_file(tensors, Path(folder, WEIGHTS_FILE))

    @classmethod
    def from_pretrained(cls, folder: str | Path, **kwargs: Any) -> Self:  # type: ignore[override]  # fewer options
        """Read what `save_pretrained` wrote, and the base from where the configuration says."""
        from safetensors.torch import load_file

        module = made_from(cls, cls.load_config(folder))
        module.load_state_dict(load_file(Path(folder, WEIGHTS_FILE)))
        return module


class VideoTokenizer(OnBase):
    """The interface of `Tokenizer` on a pretrained video autoencoder, each frame by itself; not trained further."""

    frames_at_once = 16
    latent_mean: Tensor
    latent_std: Tensor

    @register_to_config
    def __init__(self, base: str, latent_channels: int = 4):
        super().__init__()
        folder = base_folder(base)
        self.family = family_of(folder)
        self.pretrained = _part(folder, "vae")
        self._keep_base_out()
        config = self.pretrained.config
        self.factor = config.scale_factor_spatial if self.family == "wan" else 2 ** (len(config.block_out_channels) - 1)
        mean, std = (
            (0.0, 1 / config.scaling_factor) if self.family == "svd" else (config.latents_mean, config.latents_std)
        )
        self.register_buffer("latent_mean", torch.as_tensor(mean).expand(latent_channels).clone())
        self.register_buffer("latent_std", torch.as_tensor(std).expand(latent_channels).clone())

    def encode(self, frames: Tensor) -> Tensor:
        """Normalised latents [B, C, h, w] of frames [B, 3, H, W] in [-1, 1], the means of the autoencoder."""
        frames = frames.unsqueeze(2) if self.family == "wan" else frames
        latent = self.pretrained.encode(frames).latent_dist.mode()
        latent = latent.squeeze(2) if self.family == "wan" else latent
        return (latent - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Frames [B, 3, H, W], about [-1, 1], of normalised latents [B, C, h, w]."""
        latents = latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        if self.family == "wan":
            return self.pretrained.decode(latents.unsqueeze(2)).sample.squeeze(2)
        return self.pretrained.decode(latents, num_frames=1).sample

    round_trip = Tokenizer.round_trip


class VideoDynamics(OnBase, Conditioned):  # type: ignore[misc]  # as of `Network`
    """The interface of `UNetDynamics` on a pretrained video model that sees the last frames clean and draws the next.

    The coded action and pose, and what is left to denoise, become an embedding that is added to the base's own
    embedding of time in the frame that is drawn (AdaLN), by a layer that begins at zero; attention gets a LoRA
    (Hu et al. 2021). Its memory is the stack of the last `context_frames` latents. Wan 2.2 predicts noise - x at the
    times 1 - tau of that frame's tokens and 0 of the others'. Stable Video Diffusion predicts v at the noise level
    sigma = (1 - tau) / tau (Karras et al. 2022, table 1, of the same flow in other coordinates), the other frames
    beside it clean, without its image embedding.
    """

    exports = False
    prompt: Tensor

    @register_to_config
    def __init__(
        self,
        base: str,
        latent_channels: int = 4,
        grid: tuple[int, int] = (16, 16),
        context_frames: int = 3,
        action_dim: int = 3,
        proprioception_dim: int = 3,
        action_angles: tuple[int, ...] = (),
        proprioception_angles: tuple[int, ...] = (),
        condition_dim: int = 128,
        pose_width: int = 128,
        pose_activation: str = "relu",
        integrator: dict | None = None,
        lora_rank: int = 16,
        words: int = 0,
    ):
        super().__init__()
        self.build_conditioning(("film",))
        folder = base_folder(base)
        self.family = family_of(folder)
        self.pretrained = _part(folder, "unet" if self.family == "svd" else "transformer")
        inject(self.pretrained, lora_rank)
        config = self.pretrained.config
        if self.family == "svd":
            width = 4 * config.block_out_channels[0]
            self.scaling = read_mapping(folder / "vae" / "config.json").get("scaling_factor", 0.18215)
            for block in (*self.pretrained.down_blocks, self.pretrained.mid_block, *self.pretrained.up_blocks):
                block.register_forward_pre_hook(self._condition_svd, with_kwargs=True)
        else:
            width = 6 * config.num_attention_heads * config.attention_head_dim
            self.pretrained.condition_embedder.register_forward_hook(self._condition_wan)
            self.register_buffer("prompt", torch.zeros(words, config.text_dim))
        self.tell = nn.Linear(condition_dim, width)  # saved weights have its name
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)
        self._keep_base_out()
        self._added: Tensor

    @property
    def feature_dim(self) -> int:
        """Channels of the features that `forward` returns."""
        return self.config.latent_channels

    def forward(
        self,
        noisy: Tensor,
        tau: Tensor,
        memory: dict[str, Tensor],
        first: Tensor,
        vector: Tensor,
        context_noise: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """As `UNetDynamics.forward`; the features are the latent's change since the frame before.

        first [B, C, h, w], the pinned frame, is the sequence's first.
        """
        context = torch.cat([first[:, None], memory["latents"]], dim=1)
        draw = self._svd if self.family == "svd" else self._wan
        x = draw(noisy, tau, context, self.tell(self.modulate(vector, tau, context_noise)))
        return x, x - context[:, -1]

    def _svd(self, noisy: Tensor, tau: Tensor, context: Tensor, added: Tensor) -> Tensor:
        tau = tau.clamp(min=1 / (1 + LARGEST_SIGMA))[:, None, None, None]
        sigma = (1 - tau) / tau
        norm = (sigma**2 + 1).rsqrt()
        x_sigma = noisy / tau
        pictures = torch.cat([context, context[:, -1:]], dim=1) / self.scaling  # the slot for a picture is unscaled
        sample = torch.cat([context, (norm * x_sigma)[:, None]], dim=1)
        frames = sample.shape[1]
        others = added.new_zeros(len(added), frames - 1, added.shape[1])
        self._added = torch.cat([others, added[:, None]], 1).flatten(0, 1)
        nothing = noisy.new_zeros(len(noisy), 1, self.pretrained.config.cross_attention_dim)
        times = noisy.new_tensor([6.0, 127.0, 0.02]).expand(len(noisy), -1)  # frames a second - 1, motion, added noise
        sample, level = torch.cat([sample, pictures], dim=2), 0.25 * sigma.flatten().log()
        v = self.pretrained(sample, level, nothing, times).sample[:, -1]
        return norm**2 * x_sigma - sigma * norm * v

    def _wan(self, noisy: Tensor, tau: Tensor, context: Tensor, added: Tensor) -> Tensor:
        sample = torch.cat([context, noisy[:, None]], dim=1).transpose(1, 2)  # [B, C, frames, h, w]
        _, rows, columns = self.pretrained.config.patch_size
        cells, seen = (sample.shape[3] // rows) * (sample.shape[4] // columns), context.shape[1]
        time = torch.cat([tau.new_zeros(len(tau), seen * cells), (1000 * (1 - tau))[:, None].expand(-1, cells)], 1)
        others = added.new_zeros(len(added), seen * cells, added.shape[1])
        self._added = torch.cat([others, added[:, None].expand(-1, cells, -1)], 1)
        words = torch.cat([self.prompt, self.prompt.new_zeros(WORDS - len(self.prompt), self.prompt.shape[1])])
        velocity = self.pretrained(sample, time, words.expand(len(noisy), -1, -1)).sample[:, :, -1]
        return noisy - (1 - tau)[:, None, None, None] * velocity

    def _condition_svd(self, block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return args, kwargs | {"temb": kwargs["temb"] + self._added.to(kwargs["temb"])}

    def _condition_wan(self, embedder: nn.Module, args: tuple, output: tuple) -> tuple:
        time, scales, *others = output
        return time, scales + self._added.to(scales), *others


def inject(base: nn.Module, rank: int) -> None:
    """Put a LoRA of a rank beside each attention layer of a base."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("a world on a pretrained video model needs peft: pip install 'wm-gym[finetune]'") from error
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=ATTENTION), base)


def prompt_embedding(folder: Path, prompt: str) -> Tensor:
    """The embedding [words, D] of a prompt by Wan's text encoder, padding left out."""
    from transformers import AutoTokenizer, UMT5EncoderModel

    words = AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False)(
        prompt, padding=False, truncation=True, max_length=WORDS, add_special_tokens=True, return_tensors="pt"
    )
    encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder", use_safetensors=True).eval()
    with torch.inference_mode():
        return encoder(words.input_ids, words.attention_mask).last_hidden_state[0].float().clone()


def on_base(base: str | Path, prompt: str = "", **sizes: Any) -> tuple[VideoTokenizer, VideoDynamics]:
    """Tokenizer and dynamics on a pretrained pipeline, the adapters not yet trained.

    Args:
        base: The pipeline's folder or Hub id.
        prompt: The text that Wan is given with every frame.
        **sizes: Of `VideoDynamics`, with frame_size (H, W) in place of latent_channels and grid.

    Raises:
        ValueError: Where the base cannot draw frames of that size.
    """
    folder, (height, width) = base_folder(base), sizes.pop("frame_size")
    family, vae = family_of(folder), read_mapping(folder / "vae" / "config.json")
    channels = vae.get("z_dim" if family == "wan" else "latent_channels", 16 if family == "wan" else 4)
    tokenizer = VideoTokenizer(str(base), channels)
    if family == "wan":
        step = tokenizer.factor * read_mapping(folder / "transformer" / "config.json")["patch_size"][1]
    else:
        unet = read_mapping(folder / "unet" / "config.json")
        step = tokenizer.factor * 2 ** (len(unet["block_out_channels"]) - 1)
    if height % step or width % step:
        raise ValueError(
            f"frames are {height} x {width}, and {base} draws multiples of {step}; pass --size "
            f"{max(1, round(height / step)) * step}x{max(1, round(width / step)) * step}"
        )
    embedding = prompt_embedding(folder, prompt) if family == "wan" else None
    dynamics = VideoDynamics(
        str(base),
        channels,
        (height // tokenizer.factor, width // tokenizer.factor),
        words=0 if embedding is None else len(embedding),
        **sizes,
    )
    if embedding is not None:
        dynamics.prompt.copy_(embedding)
    return tokenizer, dynamics


def _part(folder: Path, name: str) -> Any:
    """A component of a pipeline, of the diffusers class that it names, from safetensors only."""
    import diffusers

    known = {
        "vae": ("AutoencoderKLTemporalDecoder", "AutoencoderKLWan"),
        "unet": ("UNetSpatioTemporalConditionModel",),
        "transformer": ("WanTransformer3DModel",),
    }[name]
    config = folder / name / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"{config} is missing; the base model is incomplete: fetch it again")
    kind = read_mapping(config).get("_class_name")
    if kind not in known:
        raise ValueError(f"{config} names the class {kind}; expected {' or '.join(known)}")
    return getattr(diffusers, kind).from_pretrained(folder / name, use_safetensors=True).eval()
