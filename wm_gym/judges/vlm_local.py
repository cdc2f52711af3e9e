"""How likely is each answer to a chat model of transformers? Read off the probabilities of its next token."""

from __future__ import annotations

import numpy as np
import torch

from wm_gym.judges.local import judge_device, load_pretrained


class LocalChat:
    """A chat model that sees, on this machine; deterministic. Implements `wm_gym.judges.vlm.Chat`.

    Args:
        model: A folder or Hub id of transformers.
        device: "auto", "cpu" or a CUDA device.
        batch: Frames at once.

    Raises:
        ValueError: For a model without a chat template; else as `load_pretrained`.
    """

    def __init__(self, model: str, device: str = "auto", batch: int = 8):
        if batch < 1:
            raise ValueError(f"batch is {batch}, expected at least 1")
        self.device, self.batch = judge_device(device), batch
        self.model, self.processor = load_pretrained("AutoModelForImageTextToText", model, self.device)
        if not getattr(self.processor, "chat_template", None):
            raise ValueError(
                f"the judge's model {model!r} has no chat template; take one that was tuned to answer, "
                "e.g. HuggingFaceTB/SmolVLM-256M-Instruct"
            )
        self.words: dict[str, list[int]] = {}
        tokenizer = self.processor.tokenizer
        for token, index in tokenizer.get_vocab().items():
            self.words.setdefault(tokenizer.convert_tokens_to_string([token]).strip().lower(), []).append(index)

    @torch.inference_mode()
    def choose(
        self, pictures: list[tuple[np.ndarray, np.ndarray]], question: str, choices: tuple[str, ...]
    ) -> np.ndarray:
        """The probabilities [N, choices] of all tokens that spell a choice, as shares of those of all choices.

        Raises:
            ValueError: Where no token of the model spells a choice.
        """
        if missing := [choice for choice in choices if choice not in self.words]:
            raise ValueError(f"the judge's model has no tokens for the answers {missing}; take another model")
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": question}]
        prompt = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        logits = []
        for i in range(0, len(pictures), self.batch):
            some = [list(pair) for pair in pictures[i : i + self.batch]]  # all of one length: no padding comes in
            inputs = self.processor(text=[prompt] * len(some), images=some, return_tensors="pt")
            inputs = inputs.to(self.device, self.model.dtype)
            out = self.model.generate(
                **inputs, max_new_tokens=1, do_sample=False, return_dict_in_generate=True, output_logits=True
            )
            logits.append(out.logits[0].double().log_softmax(-1).cpu())
        likely = torch.cat(logits)
        shares = torch.stack([likely[:, self.words[choice]].logsumexp(-1) for choice in choices], -1)
        return shares.softmax(-1).numpy()
