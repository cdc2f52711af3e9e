"""What does a model behind an OpenAI-compatible server answer? With time-outs, retries, a budget and a secret key."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
import ssl
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np

from wm_gym.common.page import png_uri
from wm_gym.judges.base import JudgeError
from wm_gym.judges.hiding import shown

try:
    import httpx2
except ImportError as missing:
    raise ImportError(
        "reward='vlm:server:...' needs httpx2: pip install 'wm-gym[judge-server]'", name="httpx2"
    ) from missing

URL_VARIABLES, KEY_VARIABLES = ("WM_GYM_VLM_URL", "OPENAI_BASE_URL"), ("WM_GYM_VLM_KEY", "OPENAI_API_KEY")
AT_ONCE = 8  # requests
BACKOFF, LONGEST_PAUSE = 1.0, 60.0  # seconds: 1, 2, 4, ... between attempts, or what the server asks for
LARGEST_ANSWER, LARGEST_REFUSAL = 1 << 20, 1 << 16  # bytes; an answer has five tokens
WORTH_ANOTHER_TRY = {408, 409, 425, 429}
ROUNDING = 1e-2  # by which a log-probability may be above 0
THREAD = "judge-server"
_SPENDING = threading.Lock()  # of the module, for a chat is copied and pickled with its environment


def _unlogged(record: logging.LogRecord) -> bool:
    """Not of a judge: at DEBUG httpcore2 logs the headers and broken lines of a server, which may hold the key."""
    return not threading.current_thread().name.startswith(THREAD)


for _part in ("connection", "proxy", "socks", "http11", "http2"):
    logging.getLogger(f"httpcore2.{_part}").addFilter(_unlogged)


class ServerChat:
    """POST {URL}/chat/completions with both pictures as PNGs, temperature 0 and log-probabilities asked for.

    The URL (ending in /v1 where the server's does) is WM_GYM_VLM_URL or OPENAI_BASE_URL, the key, which a local server
    may not need, WM_GYM_VLM_KEY or OPENAI_API_KEY; the key is read when it is sent, kept nowhere and never printed. A
    server without log-probabilities answers in words, which count as certain. Every attempt counts against the budget
    and ends within `timeout` seconds, from the look-up of the name to the last byte. May be called from any thread.
    Implements `wm_gym.judges.vlm.Chat`.
    """

    def __init__(self, model: str, timeout: float = 60.0, retries: int = 5, budget: int = 10_000):
        if not model.strip():
            raise ValueError("reward='vlm:server:' names no model; write vlm:server:MODEL, as the server calls it")
        if not 0 < timeout < math.inf or retries < 0 or budget < 1:
            raise ValueError(
                f"timeout={timeout}, retries={retries}, budget={budget}; expected a timeout > 0 s, "
                "retries >= 0 and a budget >= 1"
            )
        parts = _address(url := _variable(URL_VARIABLES))
        if parts is None:
            raise ValueError(
                f"{URL_VARIABLES[0]} is {'no address of a server' if url else 'not set'}; before "
                f"vlm:server:{model} can be asked: export {URL_VARIABLES[0]}=http://localhost:8000/v1, "
                f"and {KEY_VARIABLES[0]} if the server wants a key"
            )
        self.model, self.timeout, self.retries, self.budget, self.spent = model, timeout, retries, budget, 0
        self.url = url.rstrip("/") + "/chat/completions"
        self.shown = f"{parts.scheme}://{_host(parts)}{parts.path.rstrip('/')}"

    def choose(
        self, pictures: list[tuple[np.ndarray, np.ndarray]], question: str, choices: tuple[str, ...]
    ) -> np.ndarray:
        """Probabilities [N, choices]; JudgeError where the server stays away or the budget is spent."""
        return np.array(_run(self._ask_all(pictures, question, choices)))

    async def _ask_all(
        self, pictures: list[tuple[np.ndarray, np.ndarray]], question: str, choices: tuple[str, ...]
    ) -> list[list[float]]:
        turns = asyncio.Semaphore(AT_ONCE)

        async def in_turn(pair: tuple[np.ndarray, np.ndarray]) -> list[float]:
            async with turns:
                return await self._ask(pair, question, choices)

        try:
            async with asyncio.TaskGroup() as group:  # the first that fails stops the others
                asked = [group.create_task(in_turn(pair)) for pair in pictures]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [one.result() for one in asked]

    async def _ask(
        self, pictures: tuple[np.ndarray, np.ndarray], question: str, choices: tuple[str, ...]
    ) -> list[float]:
        content = [
            *({"type": "image_url", "image_url": {"url": png_uri(p)}} for p in pictures),
            {"type": "text", "text": question},
        ]
        body = json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
                "max_tokens": 5,
                "logprobs": True,
                "top_logprobs": 20,
            }
        ).encode()
        why, pause = "", 0.0
        for attempt in range(self.retries + 1):
            await asyncio.sleep(pause)
            self._spend(why)
            pause = min(BACKOFF * 2**attempt, LONGEST_PAUSE)
            try:
                async with asyncio.timeout(self.timeout):
                    answer = await self._post(body)
                return read_answer(answer, choices)
            except (TimeoutError, httpx2.TimeoutException):
                why = f"no whole answer within {self.timeout:g} s"
            except _Refused as refusal:
                why = ": ".join(filter(None, (f"HTTP {refusal.code}", self._hidden(refusal.said))))
                if refusal.code < 500 and refusal.code not in WORTH_ANOTHER_TRY:
                    raise JudgeError(
                        f"the judge at {self.shown} refuses ({why}); check the model {self.model!r}, "
                        f"{URL_VARIABLES[0]} and {KEY_VARIABLES[0]}"
                    ) from None
                pause = refusal.pause or pause
            except (httpx2.HTTPError, httpx2.StreamError, OSError, ValueError) as error:  # unreachable, cut off, odd
                why = self._hidden(str(error) or type(error).__name__)
        raise JudgeError(
            f"the judge at {self.shown} did not answer in {self.retries + 1} attempts; the last time: {why}"
        ) from None

    async def _post(self, body: bytes) -> bytes:
        """The body of the answer; _Refused for any status that is not 2xx.

        A bare transport, without what a client would do of its own accord: follow redirections (the key belongs to the
        address that was given), keep cookies, unpack, read .netrc, log the server's words.
        """
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "wm-gym",
            "Connection": "close",
            **self._authorization(),
        }
        async with self._transport() as transport:
            response = await transport.handle_async_request(
                httpx2.Request(
                    "POST",
                    self.url,
                    headers=headers,
                    content=body,
                    # a TLS handshake that httpx2 gives up is closed, a cancelled one is left to the garbage collector
                    extensions={"timeout": {"connect": 0.9 * self.timeout}},
                )
            )
            try:
                if not 200 <= response.status_code < 300:
                    raise _Refused(response, await _refusal(response, self.timeout / 4))
                if (packed := response.headers.get("Content-Encoding", "identity").strip().lower()) != "identity":
                    raise ValueError(f"an answer in an encoding that was not asked for: {packed}")
                answer = bytearray()
                async for part in response.aiter_raw():
                    answer += part
                    if len(answer) > LARGEST_ANSWER:
                        raise ValueError(f"an answer of more than {LARGEST_ANSWER >> 20} MiB")
                return bytes(answer)
            finally:
                await response.aclose()

    def _transport(self) -> httpx2.AsyncHTTPTransport:
        parts, proxy = urlsplit(self.url), self._proxy()
        try:
            return httpx2.AsyncHTTPTransport(
                verify=_trusted() if parts.scheme == "https" else False,
                trust_env=False,
                proxy=proxy,
                limits=httpx2.Limits(max_keepalive_connections=0),
            )
        except (ImportError, ValueError) as error:
            raise JudgeError(
                f"the judge at {self.shown} cannot be asked through the proxy that is set "
                f"({self._hidden(str(error))}); check {parts.scheme}_proxy and no_proxy"
            ) from None

    def _proxy(self) -> str | None:
        """The proxy of the environment (http_proxy, https_proxy) or of the system, if the server is not excepted."""
        parts = urlsplit(self.url)
        proxy = None if proxy_bypass(_host(parts)) else getproxies().get(parts.scheme)
        return f"http://{proxy}" if proxy and "://" not in proxy else proxy

    def _authorization(self) -> dict[str, str]:
        key = _variable(KEY_VARIABLES)
        if not (key.isascii() and key.isprintable()):
            raise JudgeError(
                f"the key in {KEY_VARIABLES[0]} or {KEY_VARIABLES[1]} holds a character that cannot be "
                "sent; expected letters, digits and signs of ASCII on one line: export it again"
            )
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _spend(self, why: str) -> None:
        with _SPENDING:
            if self.spent >= self.budget:
                raise JudgeError(
                    f"the judge's budget of {self.budget} requests is spent"
                    + (f" (the last answer: {why})" if why else "")
                    + "; give more: reward_kwargs={'budget': N}"
                )
            self.spent += 1

    def _hidden(self, text: str) -> str:
        """One short line without the keys and passwords, which a server may have echoed."""
        passwords = [_password(url) for url in (self.url, self._proxy() or "")]
        return shown(
            text, [*(os.environ.get(name, "").strip() for name in KEY_VARIABLES), *passwords, *map(unquote, passwords)]
        )


class _Refused(Exception):
    """A status that is no success, with what the server said and the seconds that it wants to be left alone."""

    def __init__(self, response: httpx2.Response, said: str):
        super().__init__(f"HTTP {response.status_code}")
        self.code, self.said = response.status_code, said
        try:
            self.pause = min(max(0.0, float(response.headers.get("Retry-After", 0))), LONGEST_PAUSE)
        except ValueError:
            self.pause = 0.0


async def _refusal(response: httpx2.Response, patience: float) -> str:
    """The beginning of a refusal's body, as far as it comes within `patience` seconds."""
    said = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for part in response.aiter_raw():
                said += part
                if len(said) > LARGEST_REFUSAL:
                    break
    except (httpx2.HTTPError, httpx2.StreamError, OSError):
        pass  # cut off or dripping: what came before it is told
    return said.decode("utf-8", "replace")


def read_answer(answer: bytes, choices: tuple[str, ...]) -> list[float]:
    """The probability of each choice in a chat completion; ValueError where it holds none of them."""
    try:
        said = json.loads(answer, parse_constant=_no_number)["choices"][0]
        text = said["message"]["content"] or ""
        tokens = (said.get("logprobs") or {}).get("content") or []
        for token in tokens:
            shares = dict.fromkeys(choices, 0.0)
            for likely in token["top_logprobs"] or [token]:
                if (word := likely["token"].strip().strip(".").lower()) in shares:
                    shares[word] += _probability(likely["logprob"])
            if (total := sum(shares.values())) > 0:
                return [share / total for share in shares.values()]
        words = re.findall(r"\w+", text.lower())
    except RecursionError:
        raise ValueError("a malformed answer, JSON that is nested too deeply to be read") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError):
        raise ValueError(f"a malformed answer: {answer.decode('utf-8', 'replace')}") from None
    found = {word for word in words if word in choices}
    if len(found) != 1:
        raise ValueError(f"an answer that is none of {list(choices)}: {text}")
    return [float(choice in found) for choice in choices]


def _probability(logprob: Any) -> float:
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not -math.inf < logprob <= ROUNDING:
        raise ValueError(f"a log-probability of {logprob!r}; expected a number up to 0")
    return math.exp(min(0.0, logprob))


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """What the coroutine returns, from a loop in a thread of its own: the caller's may have one that runs (Jupyter)."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def until_done() -> Any:
        try:
            return loop.run_until_complete(task)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(asyncio.sleep(0))  # connections that were given up are closed in the next turn
            loop.close()  # a name that is still looked up is not waited for

    with ThreadPoolExecutor(1, THREAD) as thread:
        done = thread.submit(until_done)
        try:
            return done.result()
        except KeyboardInterrupt:  # what has been asked need not be waited for
            with suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(task.cancel)
            raise


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _address(url: str) -> SplitResult | None:
    """The parts of an address of a server, None for what is none."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except ValueError:  # a port or an IPv6 address that is none
        return None


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""


def _host(parts: SplitResult) -> str:
    """Host and port, without the user and the password that may stand before them."""
    return parts.netloc.rpartition("@")[2]


def _variable(names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")
