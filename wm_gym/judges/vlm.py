"""Does a chat model that sees say that the task is done? Yes or no by several votes, and a grade from 0 to 5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from wm_gym.common.options import takes, with_changes
from wm_gym.judges.base import Judge

SERVER = "server:"
SMALLEST_SIDE = 256  # pictures are enlarged to it: chat models are not used to 64 pixels
INTRODUCTION = (
    "The first picture shows a robot before it began, the second shows it now. Its task: {task}. Look at "
    "the second picture. "
)
QUESTIONS = (
    ("Is the task done? Answer with one word, yes or no.", "yes"),
    ("Does anything remain to be done for the task? Answer with one word, yes or no.", "no"),
    ("Would a strict judge call this task completed? Answer with one word, yes or no.", "yes"),
    ("Has the task not been completed yet? Answer with one word, yes or no.", "no"),
    ("Is what the task asks for already true now? Answer with one word, yes or no.", "yes"),
)
"""A question and the answer that means success: a model that says yes to everything gets half."""
GRADE = (
    "How far has the task come, from 0 (nothing is done) to 5 (it is done)? Answer with one digit, 0, 1, 2, 3, 4 or 5."
)
GRADES = ("0", "1", "2", "3", "4", "5")


class Chat(Protocol):
    """Who answers questions about pictures."""

    def choose(
        self, pictures: list[tuple[np.ndarray, np.ndarray]], question: str, choices: tuple[str, ...]
    ) -> np.ndarray:
        """The probabilities of answers.

        Args:
            pictures: N pairs of uint8 [H, W, 3]: the episode's start and the frame.
            question: What is asked about each pair.
            choices: The answers there are.

        Returns:
            float64 [N, choices], each row with a sum of 1.

        Raises:
            JudgeError: Where the chat fails.
        """


@dataclass(frozen=True)
class VLMOptions:
    """The options of a `VLMJudge`."""

    votes: int = 3
    """Yes-or-no questions about a frame, 1 to 5; two of the five are asked the other way round."""
    threshold: float = 0.5
    """The score in [0, 1] above which it is a success."""
    device: str = "auto"
    """Of a local model: "auto", "cpu" or a CUDA device."""
    batch: int = 8
    """Of a local model: frames at once."""
    timeout: float = 60.0
    """Of a server: seconds for a whole answer."""
    retries: int = 5
    """Of a server: further attempts where one fails."""
    budget: int = 10_000
    """Of a server: requests in all."""


class VLMJudge(Judge):
    """reward="vlm:MODEL" or "vlm:server:MODEL": a chat model that sees says whether the task is done.

    It is shown the start of the episode and the frame. The score is the mean over `votes` questions of the probability
    of the answer that means success; the progress is the expected grade of 0 to 5, over 5. Both are read from the
    probabilities of the answer's tokens. A frame costs votes + 1 questions.

    Args:
        model: A folder or Hub id of a chat model of transformers that sees (SmolVLM, Qwen-VL, LLaVA ...); or
            "server:MODEL", a model of an OpenAI-compatible server (`wm_gym.judges.vlm_server`: WM_GYM_VLM_URL and
            WM_GYM_VLM_KEY in the environment).
        task: What is to be done; in an environment its task_description is the default.
        options: See `VLMOptions`; its fields can also be given one by one.

    Raises:
        ValueError: For an empty task, and for options out of their ranges.
        ImportError: Without wm-gym[judges] or wm-gym[judge-server].
    """

    needs_start = True

    @takes(VLMOptions)
    def __init__(self, model: str, task: str = "", *, options: VLMOptions | None = None, **changes: Any):
        options = with_changes(VLMOptions, options, changes)
        if not task.strip():
            raise ValueError(
                f"the judge 'vlm:{model}' does not know the task: pass reward_kwargs={{'task': 'push the "
                "block onto the green square'}}"
            )
        if not 1 <= options.votes <= len(QUESTIONS):
            raise ValueError(f"votes is {options.votes}, expected 1 to {len(QUESTIONS)}")
        if not 0 <= options.threshold <= 1:
            raise ValueError(f"threshold is {options.threshold}, expected a probability in [0, 1]")
        self.name, self.votes, self.threshold = f"vlm:{model}", options.votes, options.threshold
        self.introduction = INTRODUCTION.format(task=task.strip().rstrip("."))
        self.chat = _chat(model, options)

    def look(self, frames: np.ndarray, starts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Scores [N] and progress [N] of frames uint8 [N, H, W, 3] and the episodes' starts."""
        assert starts is not None  # needs_start
        pictures = [(enlarged(start), enlarged(frame)) for start, frame in zip(starts, frames)]
        votes = [
            self.chat.choose(pictures, self.introduction + question, ("yes", "no"))[:, ("yes", "no").index(done)]
            for question, done in QUESTIONS[: self.votes]
        ]
        grades = self.chat.choose(pictures, self.introduction + GRADE, GRADES)
        return np.mean(votes, axis=0), grades @ np.arange(len(GRADES)) / (len(GRADES) - 1)


def enlarged(frame: np.ndarray) -> np.ndarray:
    """A frame with sides of at least 256 pixels, by a whole factor."""
    from PIL import Image

    height, width = frame.shape[:2]
    factor = -(-SMALLEST_SIDE // min(height, width))
    return np.asarray(Image.fromarray(frame).resize((factor * width, factor * height), Image.Resampling.BICUBIC))


def _chat(model: str, options: VLMOptions) -> Chat:
    if model.startswith(SERVER):
        from wm_gym.judges.vlm_server import ServerChat

        return ServerChat(model.removeprefix(SERVER), options.timeout, options.retries, options.budget)
    from wm_gym.judges.vlm_local import LocalChat

    return LocalChat(model, options.device, options.batch)
