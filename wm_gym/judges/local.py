"""How is a model of `transformers` loaded for a judge? From a folder or the Hub, safetensors only, once a process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

EXTRA = "this judge needs transformers: pip install 'wm-gym[judges]'"


@lru_cache(maxsize=4)
def load_pretrained(kind: str, model: str, device: str) -> tuple[Any, Any]:
    """A model of transformers and its processor.

    Args:
        kind: The name of an Auto class.
        model: A folder or Hub id.
        device: Where it runs.

    Returns:
        The model in eval mode on the device, and its processor.

    Raises:
        ImportError: Without transformers, naming the extra.
        FileNotFoundError: Where the model is not found.
        ValueError: Where it is none of that kind.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(EXTRA) from error
    try:
        loaded = getattr(transformers, kind).from_pretrained(
            model, use_safetensors=True, dtype="auto", trust_remote_code=False
        )
        processor = transformers.AutoProcessor.from_pretrained(model, trust_remote_code=False)
    except ImportError as error:  # a part of transformers with needs of its own, as torchvision
        raise ImportError(f"the judge's model {model!r}: {error}") from error
    except OSError as error:
        raise FileNotFoundError(
            f"the judge's model {model!r} is neither a folder nor to be had from the Hub "
            f"({_first_line(error)}); where there is a network: hf download {model}"
        ) from error
    except (ValueError, KeyError) as error:
        raise ValueError(f"the judge's model {model!r} does not load as {kind} ({_first_line(error)})") from error
    return loaded.requires_grad_(False).eval().to(device), processor


def judge_device(device: str) -> str:
    """ "auto" as "cuda" where there is one, else "cpu"; any other as it is."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
