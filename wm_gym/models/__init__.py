"""Which networks make a world: tokenizer, dynamics, heads and uncertainty (each a diffusers model)."""

from wm_gym.models.dit import DiTDynamics
from wm_gym.models.dynamics import UNetDynamics
from wm_gym.models.heads import Heads, StateHeads
from wm_gym.models.pretrained import VideoDynamics, VideoTokenizer
from wm_gym.models.tokenizer import Tokenizer
from wm_gym.models.uncertainty import Uncertainty

Dynamics = UNetDynamics | DiTDynamics | VideoDynamics
"""Three back-bones behind one interface; the third is a pretrained video model."""

__all__ = [
    "DiTDynamics",
    "Dynamics",
    "Heads",
    "StateHeads",
    "Tokenizer",
    "UNetDynamics",
    "Uncertainty",
    "VideoDynamics",
    "VideoTokenizer",
]
