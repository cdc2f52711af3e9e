"""What does a model behind an OpenAI-compatible server answer? With time-outs, retries, a budget and a secret key."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from urllib.parse import urlsplit

import numpy as np

from wm_gym.judges.base import JudgeError

URL_VARIABLES, KEY_VARIABLES = ("WM_GYM_VLM_URL", "OPENAI_BASE_URL"), ("WM_GYM_VLM_KEY", "OPENAI_API_KEY")
AT_ONCE = 8  # requests
BACKOFF, LONGEST_PAUSE = 1.0, 60.0  # seconds: 1, 2, 4, ... between attempts, or what the server asks for
LARGEST_ANSWER = 4 << 20  # bytes
WORTH_ANOTHER_TRY = {408, 409, 425, 429}


class ServerChat:
    """POST {URL}/chat/completions with both pictures as PNGs, temperature 0 and log-probabilities asked for.

    The URL (ending in /v1 where the server's does) is WM_GYM_VLM_URL or OPENAI_BASE_URL, the key, which a local server
    may not need, WM_GYM_VLM_KEY or OPENAI_API_KEY; the key is read when it is sent, kept nowhere and never printed. A
    server without log-probabilities answers in words, which count as certain. Every attempt counts against the budget.
    Implements `wm_gym.judges.vlm.Chat`.
    """

    def __init__(self, model: str, timeout: float = 60.0, retries: int = 5, budget: int = 10_000):
        if not model.strip():
            raise ValueError("reward='vlm:server:' names no model; write vlm:server:MODEL, as the server calls it")
        if not 0 < timeout < math.inf or retries < 0 or budget < 1:
            raise ValueError(f"timeout={timeout}, retries={retries}, budget={budget}; expected a timeout > 0 s, "
                             "retries >= 0 and a budget >= 1")
        url = _variable(URL_VARIABLES)
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError(f"{URL_VARIABLES[0]} is {'no address of a server' if url else 'not set'}; before "
                             f"vlm:server:{model} can be asked: export {URL_VARIABLES[0]}=http://localhost:8000/v1, "
                             f"and {KEY_VARIABLES[0]} if the server wants a key")
        self.model, self.timeout, self.retries, self.budget, self.spent = model, timeout, retries, budget, 0
        self.url = url.rstrip("/") + "/chat/completions"
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        self.shown = f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}"
        self._lock = threading.Lock()

    def choose(self, pictures: list[tuple[np.ndarray, np.ndarray]], question: str,
               choices: tuple[str, ...]) -> np.ndarray:
        """Probabilities [N, choices]; JudgeError where the server stays away or the budget is spent."""
        over = threading.Event()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = [pool.submit(self._ask, pair, question, choices, over) for pair in pictures]
            try:
                return np.array([one.result() for one in asked])
            except BaseException:  # Ctrl-C too: the others need not go on
                over.set()
                raise

    def _ask(self, pictures: tuple[np.ndarray, np.ndarray], question: str, choices: tuple[str, ...],
             over: threading.Event) -> list[float]:
        content = [*({"type": "image_url", "image_url": {"url": _data_url(p)}} for p in pictures),
                   {"type": "text", "text": question}]
        body = json.dumps({"model": self.model, "messages": [{"role": "user", "content": content}], "temperature": 0,
                           "max_tokens": 5, "logprobs": True, "top_logprobs": 20}).encode()
        why, pause = "", 0.0
        for attempt in range(self.retries + 1):
            if over.wait(pause):
                break
            self._spend(why)
            pause = min(BACKOFF * 2**attempt, LONGEST_PAUSE)
            try:
                return read_answer(self._post(body), choices)
            except urllib.error.HTTPError as error:
                why = f"HTTP {error.code}: {self._said(error)}"
                if error.code < 500 and error.code not in WORTH_ANOTHER_TRY:
                    raise JudgeError(f"the judge at {self.shown} refuses ({why}); check the model {self.model!r}, "
                                     f"{URL_VARIABLES[0]} and {KEY_VARIABLES[0]}") from None
                pause = _asked_pause(error) or pause
            except (OSError, HTTPException) as error:  # unreachable, too slow, cut off
                why = self._hidden(str(getattr(error, "reason", error)) or type(error).__name__)
            except ValueError as error:
                why = self._hidden(str(error))
        raise JudgeError(f"the judge at {self.shown} did not answer in {self.retries + 1} attempts; the last time: "
                         f"{why}") from None

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key := _variable(KEY_VARIABLES):
            headers["Authorization"] = f"Bearer {key}"
        request, deadline = urllib.request.Request(self.url, body, headers), time.monotonic() + self.timeout
        with _OPENER.open(request, timeout=self.timeout) as response:
            answer = b""
            while part := response.read1(1 << 16):  # a server that drips keeps each single read short
                answer += part
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no whole answer within {self.timeout:g} s")
                if len(answer) > LARGEST_ANSWER:
                    raise ValueError(f"an answer of more than {LARGEST_ANSWER >> 20} MiB")
        return answer

    def _spend(self, why: str) -> None:
        with self._lock:
            if self.spent >= self.budget:
                raise JudgeError(f"the judge's budget of {self.budget} requests is spent" + (
                    f" (the last answer: {why})" if why else "") + "; give more: reward_kwargs={'budget': N}")
            self.spent += 1

    def _said(self, error: urllib.error.HTTPError) -> str:
        try:
            return self._hidden(error.read(2000).decode("utf-8", "replace"))
        except (OSError, HTTPException):
            return "no further word"

    def _hidden(self, text: str) -> str:
        """One short line without the key, which a server may have echoed."""
        for variable in KEY_VARIABLES:
            if key := os.environ.get(variable, "").strip():
                text = text.replace(key, "[key]")
        return " ".join(text.split())[:300]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is an error: the key belongs to the address that was given."""

    def redirect_request(self, *args, **kwargs):
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def read_answer(answer: bytes, choices: tuple[str, ...]) -> list[float]:
    """The probability of each choice in a chat completion; ValueError where it holds none of them."""
    try:
        said = json.loads(answer)["choices"][0]
        text = said["message"]["content"] or ""
        tokens = (said.get("logprobs") or {}).get("content") or []
        for token in tokens:
            shares = dict.fromkeys(choices, 0.0)
            for likely in token["top_logprobs"] or [token]:
                if (word := likely["token"].strip().strip(".").lower()) in shares:
                    shares[word] += math.exp(min(0.0, float(likely["logprob"])))
            if (total := sum(shares.values())) > 0:
                return [share / total for share in shares.values()]
        words = re.findall(r"\w+", text.lower())
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(f"a malformed answer {answer[:200].decode('utf-8', 'replace')!r}") from None
    found = {word for word in words if word in choices}
    if len(found) != 1:
        raise ValueError(f"an answer {text[:100]!r} that is none of {list(choices)}")
    return [float(choice in found) for choice in choices]


def _asked_pause(error: urllib.error.HTTPError) -> float:
    """Seconds of a Retry-After header, 0 where there is none that can be read."""
    try:
        return min(max(0.0, float(error.headers.get("Retry-After", 0))), LONGEST_PAUSE)
    except ValueError:
        return 0.0


def _data_url(picture: np.ndarray) -> str:
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(picture).save(png, "PNG")
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def _variable(names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")
