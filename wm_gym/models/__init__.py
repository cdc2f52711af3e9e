"""Which networks make a world: tokenizer, dynamics and heads (each a diffusers model)."""

from wm_gym.models.dynamics import UNetDynamics
from wm_gym.models.heads import Heads
from wm_gym.models.tokenizer import Tokenizer

__all__ = ["Heads", "Tokenizer", "UNetDynamics"]
