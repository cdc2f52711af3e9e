"""Does the judge outlast every misbehaving server of `server_faults`? Each is a real one on a socket, asked once."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch
from urllib.parse import unquote

import numpy as np
from server_faults import FAULTS, Fault, http, say

from wm_gym.judges import JudgeError
from wm_gym.judges.vlm_server import ServerChat

KEY = "sk-Zq8vR2mXwT7_yB4nLp9cKd6HfJ3gUs5-eAaVb1Nt"  # 43 characters
TIMEOUT, GRACE = 0.8, 2.0  # seconds: of an attempt, and by which its end may be late
LONGEST_WORD = 700  # characters of an error
PART = 4  # characters of the key in a row that count as leaked
PICTURE = np.zeros((8, 8, 3), np.uint8)
_ADDRESS = threading.Lock()  # the environment is one for all threads


class BadServer:
    """Does the fault to every caller until it is closed; without one it never accepts: its queue of callers is full."""

    def __init__(self, fault: Fault | None):
        self.fault, self.over = fault, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=8 if fault else 0)
        self.url = f"{fault.scheme if fault else 'http'}://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.callers = []
        if fault:
            threading.Thread(target=self._serve, daemon=True).start()
            return
        for _ in range(4):
            self.callers.append(socket.socket())
            self.callers[-1].setblocking(False)
            self.callers[-1].connect_ex(self.listener.getsockname())

    def _serve(self) -> None:
        while not self.over.is_set():
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(caller,), daemon=True).start()

    def _answer(self, caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError):  # the caller may hang up
            caller.settimeout(5)
            self.fault.act(caller, _read(caller) if self.fault.reads else KEY, self.over)

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        for one in (self.listener, *self.callers):
            one.close()


def _read(caller: socket.socket) -> str:
    """Reads a whole request; its key."""
    heard = b""
    while b"\r\n\r\n" not in heard and (part := caller.recv(1 << 16)):
        heard += part
    head, end, body = heard.partition(b"\r\n\r\n")
    if not end:
        raise ConnectionError("the caller hung up before its request was whole")
    left = int(re.search(rb"content-length: (\d+)", head, re.I)[1]) - len(body)
    while left > 0 and (part := caller.recv(1 << 16)):
        left -= len(part)
    return re.search(rb"authorization: Bearer (\S+)", head, re.I)[1].decode()


def measure(faults: Iterable[Fault | None] = (*FAULTS, None), at_once: int = 12) -> list[dict]:
    """One row a fault, and one for what all of them together left in logs (of every level) and on standard error.

    name; seconds, timeout and hang (it ended late); outcome, raw (an error that is not the documented one) and word (of
    the error); leaked (the longest part of the key there or in chained errors); control (characters that do not print);
    fine (all of it, and what had to be understood was).
    """
    started, said = time.monotonic(), io.StringIO()
    logs = logging.StreamHandler(said)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(logs)
    root.setLevel(logging.DEBUG)
    try:
        with (
            patch.dict(os.environ, {"WM_GYM_VLM_KEY": KEY}),
            contextlib.redirect_stderr(said),
            ThreadPoolExecutor(at_once) as pool,
        ):
            _measured(Fault("none", say(http())))  # what is imported at the first request is not the server's fault
            rows = list(pool.map(_measured, faults))
    finally:
        root.setLevel(level)
        root.removeHandler(logs)
    both = said.getvalue()
    return [
        *rows,
        _row(
            "logs and standard error of all",
            time.monotonic() - started,
            "yes",
            "",
            both,
            True,
            hang=any(row["hang"] for row in rows),
        ),
    ]


def _measured(fault: Fault | None) -> dict:
    server = BadServer(fault)
    try:
        with _ADDRESS, patch.dict(os.environ, {"WM_GYM_VLM_URL": server.url}):
            asked = ServerChat("some/model", TIMEOUT, retries=0)
        started, word, chain = time.monotonic(), "", ""
        try:
            shares = asked.choose([(PICTURE, PICTURE)], "done?", ("yes", "no"))
            outcome = "yes" if shares.tolist() == [[1, 0]] else f"wrong: {shares.tolist()}"
        except Exception as error:
            outcome, word, chain = type(error).__name__, str(error), "\n".join(_chained(error))
        seconds = time.monotonic() - started
    finally:
        server.close()
    if fault is None:
        return _row("never accepts", seconds, outcome, word, chain, False)
    return _row(fault.name, seconds, outcome, word, chain, fault.answers)


def _row(
    name: str, seconds: float, outcome: str, word: str, seen: str, answers: bool | None, hang: bool | None = None
) -> dict:
    allowed = {True: ["yes"], False: [JudgeError.__name__], None: ["yes", JudgeError.__name__]}[answers]
    row = {
        "name": name,
        "seconds": round(seconds, 3),
        "timeout": TIMEOUT,
        "outcome": outcome,
        "word": word,
        "hang": seconds > TIMEOUT + GRACE if hang is None else hang,
        "raw": not (outcome in ("yes", JudgeError.__name__) or outcome.startswith("wrong")),
        "leaked": leaked(f"{word}\n{seen}"),
        "control": not word.isprintable(),
    }
    return row | {
        "fine": outcome in allowed
        and len(word) <= LONGEST_WORD
        and not (row["leaked"] or row["hang"] or row["control"])
    }


def _chained(error: BaseException | None) -> Iterator[str]:
    """What the error and all those that it came from say, also those that a traceback would leave out."""
    met, waiting = set(), [error]
    while waiting:
        if (error := waiting.pop()) is None or id(error) in met:
            continue
        met.add(id(error))
        yield f"{error} {error!r} {getattr(error, '__notes__', '')}"
        waiting += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]


def leaked(text: str, key: str = KEY) -> int:
    """The longest part of the key in the text, in any of the writings of `server_faults`; less than 4 is no leak."""
    plain = html.unescape(unquote(unquote(re.sub(r"\\+(?:u00|x)([0-9a-fA-F]{2})", r"%\1", text))))
    views = [text, plain]
    for run in re.findall(r"[\w+/-]{8,}", text, re.ASCII):
        for begin in range(4):
            code = run[begin:][: len(run[begin:]) // 4 * 4]
            views.append(base64.b64decode(code, "-_").decode("latin-1"))
    for run in re.findall("[0-9a-f]{8,}", text.replace(":", "")):
        views += [bytes.fromhex(run[begin:][: len(run[begin:]) // 2 * 2]).decode("latin-1") for begin in range(2)]
    views += [re.sub(r"[^\w-]|u200b", "", view, flags=re.ASCII) for view in views[:2]]
    views = [text.lower() for view in views for text in (view, view[::-1])]
    key, longest = key.lower(), 0
    for start in range(len(key)):
        while any(key[start : start + max(PART, longest + 1)] in view for view in views) and start + max(
            PART, longest + 1
        ) <= len(key):
            longest = max(PART, longest + 1)
    return longest
