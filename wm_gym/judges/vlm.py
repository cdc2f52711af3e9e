"""Does a chat model that sees say that the task is done? Yes or no by several votes, and a grade from 0 to 5."""

from __future__ import annotations

from typing import Protocol

import numpy as np

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
        """Probabilities float64 [N, choices] of the answers about N pairs of pictures; JudgeError where it cannot."""


class VLMJudge(Judge):
    """vlm:MODEL, a folder or Hub id of a chat model of transformers that sees (SmolVLM, Qwen-VL, LLaVA ...), or
    vlm:server:MODEL, a model of an OpenAI-compatible server (`wm_gym.judges.vlm_server`: WM_GYM_VLM_URL and
    WM_GYM_VLM_KEY in the environment).

    It is shown the start of the episode and the frame. The score is the mean over `votes` questions (1 to 5, two of the
    five asked the other way round) of the probability of the answer that means success; progress is the expected grade
    of 0 to 5, over 5. Both are read from the probabilities of the answer's tokens. A frame costs votes + 1 questions.

    task: what is to be done, the world's task_description by default. timeout (seconds), retries and budget (questions
    in all) are of the server, device and batch of the local model. Raises ValueError for an empty task.
    """

    needs_start = True

    def __init__(
        self,
        model: str,
        task: str = "",
        votes: int = 3,
        threshold: float = 0.5,
        device: str = "auto",
        batch: int = 8,
        timeout: float = 60.0,
        retries: int = 5,
        budget: int = 10_000,
    ):
        if not task.strip():
            raise ValueError(
                f"the judge 'vlm:{model}' does not know the task: pass reward_kwargs={{'task': 'push the "
                "block onto the green square'}}"
            )
        if not 1 <= votes <= len(QUESTIONS):
            raise ValueError(f"votes is {votes}, expected 1 to {len(QUESTIONS)}")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}, expected a probability in [0, 1]")
        self.name, self.votes, self.threshold = f"vlm:{model}", votes, threshold
        self.introduction = INTRODUCTION.format(task=task.strip().rstrip("."))
        self.chat = (
            _server(model, timeout, retries, budget) if model.startswith(SERVER) else _local(model, device, batch)
        )

    def look(self, frames: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    return np.asarray(Image.fromarray(frame).resize((factor * width, factor * height), Image.BICUBIC))


def _server(model: str, timeout: float, retries: int, budget: int) -> Chat:
    from wm_gym.judges.vlm_server import ServerChat

    return ServerChat(model.removeprefix(SERVER), timeout, retries, budget)


def _local(model: str, device: str, batch: int) -> Chat:
    from wm_gym.judges.vlm_local import LocalChat

    return LocalChat(model, device, batch)
