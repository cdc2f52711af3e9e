"""Which actions does a video show? Six networks that read them off its frames, behind one interface.

pair         a CNN on two neighbouring frames
video        a 3-D CNN that looks backwards and forwards in time (Baker et al. 2022, "Video PreTraining")
transformer  attention in both directions over one token a frame
flow         flow matching of the whole chunk of actions (Jang et al. 2025, "DreamGen")
masked       a CNN on two frames, of which it first learns what to look at (Feng et al. 2025, "Vidar")
latent       what a frame lacks to predict the next, learned from video alone, and a linear probe of it (Bruce et
             al. 2024, "Genie"; Ye et al. 2025, "LAPA")
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wm_gym.models.blocks import ResBlock
from wm_gym.models.sampling import sample_euler
from wm_gym.models.saving import Network, register_to_config

SHARPNESS = 10.0  # of the softmax that turns a map into a point, and the scale of how far points have moved
DIM = 64  # of the tokens


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers next to nothing are nothing meanwhile: a sharp softmax's tails would take the CPU half of the time."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class Points(nn.Module):
    """Frames [B, 3, H, W] in [-1, 1] -> where `points` features are, [B, 2 * points] in [-1, 1].

    A point is the mean place under a softmax over a feature map (Levine et al. 2016, "End-to-End Training of Deep
    Visuomotor Policies", sec. 5.1): a few hundred pairs teach it which, where a plain network learns them by heart.
    """

    def __init__(self, frame_size: Sequence[int], points: int):
        super().__init__()
        self.eyes = nn.Sequential(
            nn.Conv2d(3, points, 5, stride=2, padding=2), nn.SiLU(), nn.Conv2d(points, points, 3, padding=1)
        )
        self.read = SoftArgmax([(side + 1) // 2 for side in frame_size])

    def forward(self, frames: Tensor) -> Tensor:
        """The places of features in frames."""
        return self.read(self.eyes(frames))

    def of_clips(self, clips: Tensor) -> Tensor:
        """The places [B, T, 2 * points] of features in clips [B, T, 3, H, W]."""
        return self(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])


class SoftArgmax(nn.Module):
    """Maps [B, K, h, w] -> the mean place under each one's softmax, [B, 2 * K] in [-1, 1]."""

    places: Tensor

    def __init__(self, grid: Sequence[int]):
        super().__init__()
        axes = [torch.linspace(-1, 1, side) for side in grid]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 2)
        self.register_buffer("places", places, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """The places of maps."""
        return ((SHARPNESS * maps.flatten(2)).softmax(-1) @ self.places).flatten(1)


def moves(points: Tensor) -> Tensor:
    """Points [B, T, D] -> how far they moved to the next frame, enlarged, and where they then are: [B, T-1, 2D]."""
    return torch.cat([SHARPNESS * (points[:, 1:] - points[:, :-1]), points[:, 1:]], dim=-1)


class Reader(nn.Module):
    """A network that reads actions [B, T-1, A], standardised, off frames [B, T, 3, H, W]; and its loss."""

    def forward(self, frames: Tensor) -> Tensor:
        """The actions between frames."""
        raise NotImplementedError

    def loss(self, frames: Tensor, actions: Tensor) -> Tensor:
        """How wrong it is about actions."""
        return F.smooth_l1_loss(self(frames), actions, beta=0.1)


class Pair(Reader):
    """Reads an action off how far the points that it watches move from one frame to the next."""

    def __init__(self, frame_size: Sequence[int], action_dim: int, window: int = 2, width: int = 16):
        super().__init__()
        self.points = Points(frame_size, width)
        self.head = nn.Sequential(nn.Linear(4 * width, 64), nn.SiLU(), nn.Linear(64, action_dim))

    def forward(self, frames: Tensor) -> Tensor:
        """The actions between frames."""
        return self.head(moves(self.points.of_clips(frames)))


class Video(Reader):
    """The same with convolutions over space and time, so that a frame is seen beside those before and after it."""

    def __init__(self, frame_size: Sequence[int], action_dim: int, window: int, width: int):
        super().__init__()
        self.eyes = nn.Sequential(
            nn.Conv3d(3, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2)),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1),
        )
        self.read = SoftArgmax([(side + 1) // 2 for side in frame_size])
        self.head = nn.Sequential(
            nn.Conv1d(4 * width, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv1d(64, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv1d(64, action_dim, 1),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """The actions between frames."""
        maps = self.eyes(frames.transpose(1, 2)).transpose(1, 2)
        points = self.read(maps.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return self.head(moves(points).transpose(1, 2)).transpose(1, 2)


class Tokens(nn.Module):
    """A clip's frames [B, T, 3, H, W] -> a token of each two neighbours, [B, T-1, D], which has attended to all."""

    def __init__(self, frame_size: Sequence[int], window: int, width: int):
        super().__init__()
        self.points, self.token = Points(frame_size, width), nn.Linear(4 * width, DIM)
        self.place = nn.Parameter(0.02 * torch.randn(1, window - 1, DIM))
        self.attention = attention()

    def forward(self, frames: Tensor) -> Tensor:
        """The tokens of clips."""
        tokens = self.token(moves(self.points.of_clips(frames)))
        return self.attention(tokens + self.place[:, : tokens.shape[1]])


def attention() -> nn.Module:
    """Two transformer layers that look in both directions, normalised first."""
    layer = nn.TransformerEncoderLayer(DIM, 4, 2 * DIM, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Transformer(Reader):
    """Each action from the frames of the whole clip."""

    def __init__(self, frame_size: Sequence[int], action_dim: int, window: int, width: int):
        super().__init__()
        self.tokens, self.head = Tokens(frame_size, window, width), nn.Linear(DIM, action_dim)

    def forward(self, frames: Tensor) -> Tensor:
        """The actions between frames."""
        return self.head(self.tokens(frames))


class Flow(Reader):
    """A chunk of actions drawn from what is likely given the clip: dx/dtau = (x_hat - x) / (1 - tau) from noise.

    It predicts the clean chunk; reading begins at zero, the middle of the noise, so that the same video is read the
    same.
    """

    steps = 4

    def __init__(self, frame_size: Sequence[int], action_dim: int, window: int, width: int):
        super().__init__()
        self.tokens = Tokens(frame_size, window, width)
        self.enter, self.denoise = nn.Linear(action_dim + 1, DIM), attention()
        self.head = nn.Linear(DIM, action_dim)

    def predict(self, noisy: Tensor, tau: Tensor, tokens: Tensor) -> Tensor:
        """The clean chunk [B, n, A] of a noisy one at tau [B]."""
        level = tau[:, None, None].expand(*noisy.shape[:2], 1)
        return self.head(self.denoise(self.enter(torch.cat([noisy, level], dim=-1)) + tokens))

    def forward(self, frames: Tensor) -> Tensor:
        """The actions between frames."""
        tokens = self.tokens(frames)
        noise = tokens.new_zeros(*tokens.shape[:2], self.head.out_features, 1)  # four axes, as `sample_euler` has it
        chunk, _ = sample_euler(
            lambda x, tau: (self.predict(x[..., 0], tau, tokens)[..., None], None), noise, self.steps
        )
        return chunk[..., 0]

    def loss(self, frames: Tensor, actions: Tensor) -> Tensor:
        """How wrong it is about actions."""
        tau = torch.rand(len(actions), device=actions.device)
        noisy = torch.lerp(torch.randn_like(actions), actions, tau[:, None, None])
        return F.smooth_l1_loss(self.predict(noisy, tau, self.tokens(frames)), actions, beta=0.1)


class Masked(Reader):
    """A mask is learned of what matters to the action, as small as the reading allows; the rest is not seen."""

    sparsity = 3e-3

    def __init__(self, frame_size: Sequence[int], action_dim: int, window: int, width: int):
        super().__init__()
        self.mask = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 4, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        )
        self.reader = Pair(frame_size, action_dim, window, width)

    def forward(self, frames: Tensor) -> Tensor:
        """The actions between frames."""
        return self._read(frames)[0]

    def loss(self, frames: Tensor, actions: Tensor) -> Tensor:
        """How wrong it is about actions."""
        found, mask = self._read(frames)
        return F.smooth_l1_loss(found, actions, beta=0.1) + self.sparsity * mask.mean()

    def _read(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        mask = self.mask(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return self.reader(mask * frames), mask


class Latent(Reader):
    """Latent actions z [B, T-1, Z]: the little that a decoder needs, beside a frame, to make the next one.

    z = tanh(f(how far points moved)), with noise of 0.1 on it in training, so that it has room for little; the
    decoder is convolutional and conditioned on z by FiLM, so that z means the same everywhere. `probe` makes actions
    of z.
    """

    size, patch, hidden = 2, 4, 48

    def __init__(self, frame_size: Sequence[int], action_dim: int, window: int, width: int):
        super().__init__()
        self.points = Points(frame_size, width)
        self.head = nn.Sequential(nn.Linear(2 * width, 64), nn.SiLU(), nn.Linear(64, self.size))
        pixels = 3 * self.patch**2
        self.enter = nn.Conv2d(pixels, self.hidden, 3, padding=1)
        self.leave = nn.Conv2d(self.hidden, pixels, 3, padding=1)
        self.blocks = nn.ModuleList(ResBlock(self.hidden, self.hidden, self.size) for _ in range(3))
        self.probe = nn.Linear(self.size, action_dim)

    def latent(self, frames: Tensor) -> Tensor:
        """z [B, T-1, Z] in (-1, 1) of frames [B, T, 3, H, W]."""
        points = self.points.of_clips(frames)
        return torch.tanh(self.head(SHARPNESS * (points[:, 1:] - points[:, :-1])))

    def forward(self, frames: Tensor) -> Tensor:
        """The actions between frames."""
        return self.probe(self.latent(frames))

    def loss(self, frames: Tensor, actions: Tensor) -> Tensor:
        """How far the decoder is from the next frames, what moved weighing most; the actions are not looked at."""
        z = self.latent(frames).flatten(0, 1)
        z = z + 0.1 * torch.randn_like(z)
        before, after = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        h = self.enter(F.pixel_unshuffle(before, self.patch))
        for block in self.blocks:
            h = block(h, z)
        made = before + F.pixel_shuffle(self.leave(h), self.patch)
        moved = ((after - before).abs().amax(1, keepdim=True) > 0.1).float()
        return ((made - after).abs() * (0.05 + moved)).mean() / (0.05 + moved).mean()

    @torch.no_grad()
    def fit_probe(self, latents: Tensor, actions: Tensor) -> None:
        """Least squares of standardised actions [N, A] on latents [N, Z]."""
        inputs = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
        found = torch.linalg.lstsq(inputs, actions).solution
        self.probe.weight.copy_(found[:-1].T)
        self.probe.bias.copy_(found[-1])


KINDS: dict[str, Callable[[Sequence[int], int, int, int], Reader]] = {
    "pair": Pair,
    "video": Video,
    "transformer": Transformer,
    "flow": Flow,
    "masked": Masked,
    "latent": Latent,
}


class InverseDynamics(Network):
    """Frames [B, T, 3, H, W] in [-1, 1] -> the actions between them [B, T-1, A], in the recording's units.

    Where the recording holds the robot's pose (pose_dim > 0), another small network reads it off single frames, and
    `motion` says what an action does to it.

    Args:
        kind: One of `KINDS`.
        frame_size: (H, W), even numbers.
        action_dim: A.
        pose_dim: P; 0 for none.
        window: The T that it is trained and asked with.
        width: Of its features.

    Raises:
        ValueError: For an unknown kind, and for frames whose sides are odd.
    """

    action_mean: Tensor
    action_std: Tensor
    pose_mean: Tensor
    pose_std: Tensor
    motion: Tensor
    reader: Reader

    @register_to_config
    def __init__(
        self,
        kind: str = "transformer",
        frame_size: tuple[int, int] = (64, 64),
        action_dim: int = 2,
        pose_dim: int = 0,
        window: int = 9,
        width: int = 16,
    ):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"inverse dynamics of the kind {kind!r} are unknown; choose one of {', '.join(KINDS)}")
        if any(side % 2 for side in frame_size):
            raise ValueError(f"frames are {frame_size[0]} x {frame_size[1]}, expected even sides: resize them")
        self.reader = KINDS[kind](frame_size, action_dim, window, width)
        self.where = (
            nn.Sequential(Points(frame_size, width), nn.Linear(2 * width, 64), nn.SiLU(), nn.Linear(64, pose_dim))
            if pose_dim
            else None
        )
        for name, size in (("action", action_dim), ("pose", pose_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("motion", torch.zeros(action_dim + 1, pose_dim))

    def forward(self, frames: Tensor) -> Tensor:
        """The actions between frames."""
        return self.reader(frames) * self.action_std + self.action_mean

    def pose(self, frames: Tensor) -> Tensor:
        """The robot's pose [B, T, P] in frames [B, T, 3, H, W]; ValueError where the recording had none."""
        if self.where is None:
            raise ValueError("these inverse dynamics read no pose: their recording had none")
        found = self.where(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return found * self.pose_std + self.pose_mean

    def moved(self, actions: Tensor) -> Tensor:
        """The change of pose [..., P] by actions [..., A]: a linear map, fitted where the robot did what they say."""
        return actions @ self.motion[:-1] + self.motion[-1]

    def loss(self, frames: Tensor, actions: Tensor, poses: Tensor) -> Tensor:
        """How wrong it is about actions [B, T-1, A] and poses [B, T, P]."""
        loss = self.reader.loss(frames, (actions - self.action_mean) / self.action_std)
        if self.where is not None:
            loss = loss + F.smooth_l1_loss(
                (self.pose(frames) - self.pose_mean) / self.pose_std, (poses - self.pose_mean) / self.pose_std, beta=0.1
            )
        return loss
