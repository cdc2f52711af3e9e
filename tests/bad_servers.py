"""How can a judge's server misbehave? A table of ways, each a real server on a socket, and what must hold for all.

`measure()` asks every one of them once and says what came of it.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from unittest.mock import patch
from urllib.parse import quote, unquote

import numpy as np

from wm_gym.judges import JudgeError
from wm_gym.judges.vlm_server import ServerChat

KEY = "sk-Zq8vR2mXwT7_yB4nLp9cKd6HfJ3gUs5-eAaVb1Nt"  # 43 characters
TIMEOUT, GRACE = 0.5, 1.0  # seconds: of an attempt, and by which its end may be late
LONGEST_WORD = 700  # characters of an error
PART = 4  # characters of the key in a row that count as leaked
PICTURE = np.zeros((8, 8, 3), np.uint8)
CHOICES = ("yes", "no")


def chat(content: object = "yes", **more: object) -> dict:
    return {"choices": [{"message": {"role": "assistant", "content": content}, **more}]}


def likely(*tokens: object) -> dict:
    return chat(logprobs={"content": [{"token": "yes", "logprob": 0, "top_logprobs": list(tokens)}]})


def http(body: bytes | object = chat(), status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json",
             f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(chunks: bytes, *headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers]).encode() + b"\r\n\r\n" + chunks


Act = Callable[[socket.socket, str, threading.Event], None]
"""What is done with a caller, given the key that it sent, until the event is set."""


@dataclass(frozen=True)
class Fault:
    name: str
    act: Act
    answers: bool | None = False
    """True where "yes" must be understood, False where a JudgeError must be raised, None where either will do."""
    scheme: str = "http"
    reads: bool = True
    """Does the server read the request before it acts?"""


def say(raw: bytes | Callable[[str], bytes]) -> Act:
    def act(caller, key, over):
        caller.sendall(raw(key) if callable(raw) else raw)
    return act


def drip(before: bytes, piece: bytes, pause: float = 0.02) -> Act:
    def act(caller, key, over):
        caller.sendall(before)
        while not over.wait(pause):
            caller.sendall(piece)
    return act


def flood(before: bytes, piece: bytes) -> Act:
    return drip(before, piece * (1 + (1 << 16) // len(piece)), 0)


def hold(before: bytes) -> Act:
    def act(caller, key, over):
        caller.sendall(before)
        over.wait()
    return act


def reset(before: bytes) -> Act:
    def act(caller, key, over):
        caller.sendall(before)
        time.sleep(0.05)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return act


def half_closed(before: bytes) -> Act:
    def act(caller, key, over):
        caller.sendall(before)
        caller.shutdown(socket.SHUT_WR)
        over.wait()
    return act


def echo(written: Callable[[str], str], status: str = "401 Unauthorized") -> Act:
    return say(lambda key: http(json.dumps({"error": "@"}).replace("@", written(key)).encode("utf-8", "replace"), status))


HEAD, CODED = b"HTTP/1.1 200 OK\r\n", {"gzip": gzip.compress(json.dumps(chat()).encode()), "bomb": gzip.compress(bytes(1 << 26))}
DEEP = b"[" * 100_000
AT_EACH_LEVEL = {"null": None, "a number": 3, "a string": "yes", "true": True, "a list": [[]], "an object": {"a": {}}}
HELLO = bytes.fromhex("160303007a0200007603030102")
WRITINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "twice": lambda key: key + key,
    "upper case": str.upper,
    "JSON escapes": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "Python escapes": lambda key: "".join(f"\\x{ord(c):02x}" for c in key),
    "JSON within JSON": lambda key: "".join(f"\\\\u{ord(c):04X}" for c in key),
    "per cent": lambda key: "".join(f"%{ord(c):02x}" for c in key),
    "per cent twice": lambda key: quote("".join(f"%{ord(c):02x}" for c in key)),
    "HTML entities": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 of the header": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64 of user and key": lambda key: base64.urlsafe_b64encode(f"me:{key}".encode()).decode(),
    "base64 in lines": lambda key: base64.encodebytes(f"{key * 4}".encode()).decode().replace("\n", "\\n"),
    "hex": lambda key: key.encode().hex(),
    "hex with colons": lambda key: key.encode().hex(":"),
    "backwards": lambda key: key[::-1],
    "spaced": lambda key: " ".join(key),
    "a list of letters": lambda key: json.dumps(list(key)),
    "invisible between": lambda key: "\u200b".join(key),
    "without its first 9": lambda key: key[9:],
    "its first 30": lambda key: key[:30],
    "its middle": lambda key: "x" + key[11:32] + "x",
}
CUTS = [100, 200, 300, 2000, 4096, 8192, 1 << 16]


def _table() -> Iterable[Fault]:
    # what is slow or never ends, at each stage
    yield Fault("silent", hold(b""), reads=False)
    yield Fault("silent once it has read", hold(b""))
    for stage, before, piece in [
            ("status line", b"HTTP/1.1 200 O", b"K"), ("headers", HEAD, b"X: y\r\n"), ("one header", HEAD + b"X: ", b"y"),
            ("header name", HEAD, b"X"), ("body", http(length=5000)[:-20], b" "), ("chunk size", chunked(b""), b"0"),
            ("chunk extension", chunked(b"5;"), b"a"), ("chunks", chunked(b""), b"1\r\n \r\n"),
            ("trailers", chunked(b"1\r\n \r\n0\r\n"), b"T: t\r\n"), ("body until it closes", HEAD + b"\r\n", b" "),
            ("refusal's body", http(b"no", "401 No", length=5000), b"."), ("blank lines first", b"", b"\r\n"),
            ("100 Continue", b"", b"HTTP/1.1 100 Continue\r\n\r\n"), ("103 Early Hints", b"", b"HTTP/1.1 103 H\r\nLink: a\r\n\r\n")]:
        yield Fault(f"drips its {stage}", drip(before, piece))
        yield Fault(f"floods its {stage}", flood(before, piece))
    for stage, before in [("status", b"HTTP/1.1 2"), ("headers", HEAD + b"Content-Le"), ("body", http()[:-9]),
                          ("chunk", chunked(b"ff\r\n{")), ("100 Continue", b"HTTP/1.1 100 Continue\r\n\r\n")]:
        yield Fault(f"stops in its {stage}", hold(before))
        yield Fault(f"closes in its {stage}", say(before))
        yield Fault(f"resets in its {stage}", reset(before))
        yield Fault(f"half closes in its {stage}", half_closed(before))
    yield Fault("resets at once", reset(b""), reads=False)
    yield Fault("closes at once", say(b""), reads=False)
    yield Fault("answers before it reads", say(http()), answers=None, reads=False)
    yield Fault("half closes after its answer", half_closed(http()), answers=True)
    yield Fault("keeps open after its answer", hold(http()), answers=True)
    # TLS
    yield Fault("plain HTTP where TLS is due", say(http()), scheme="https", reads=False)
    yield Fault("silent where TLS is due", hold(b""), scheme="https", reads=False)
    yield Fault("drips its TLS hello", drip(HELLO, b"\0"), scheme="https", reads=False)
    yield Fault("a TLS alert", say(bytes.fromhex("15030300020228")), scheme="https", reads=False)
    yield Fault("TLS where HTTP is due", say(HELLO))
    yield Fault("HTTP/9.9", say(http().replace(b"HTTP/1.1", b"HTTP/9.9")), answers=None)
    # the protocol
    for name, raw in {
            "HTTP/0.9": json.dumps(chat()).encode(), "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "binary": bytes(range(256)) * 9, "SSH": b"SSH-2.0-x\r\n",
            "a header of 10 MB": HEAD + b"X: " + b"y" * 10_000_000 + b"\r\n\r\n", "a header without a colon": HEAD + b"X\r\n\r\n",
            "100,000 headers": HEAD + b"X: y\r\n" * 100_000 + b"\r\n", "NUL in a header": http(chat(), "200 OK", "X: \0"),
            "a space before the colon": http(chat(), "200 OK", "X : y"), "folded first header": HEAD + b" X: y\r\n\r\n",
            "two lengths": http(chat(), "200 OK", "Content-Length: 3"), "a negative length": http(length=-5),
            "a length in words": http().replace(b"Content-Length: ", b"Content-Length: x"),
            "a length of 10^30": http(length=10**30), "too long a length": http(length=5000), "too short a length": http(length=20),
            "a length of 0": http(length=0), "a length of 4,000 digits": http(length=9 * 10**3999),
            "a huge chunk size": chunked(b"f" * 15 + b"\r\n{}"), "a chunk size of 30 digits": chunked(b"f" * 30 + b"\r\n{}"),
            "a negative chunk size": chunked(b"-5\r\nhello\r\n"), "an invalid chunk size": chunked(b"xyz\r\nhello\r\n"),
            "a chunk without its end": chunked(b"2\r\n{}3\r\n"), "no last chunk": chunked(b"2\r\n{}\r\n"),
            "an unknown transfer encoding": http(chat(), "200 OK", "Transfer-Encoding: gzip"),
            "gzip that nobody asked for": http(CODED["gzip"], "200 OK", "Content-Encoding: gzip"),
            "a gzip bomb": http(CODED["bomb"], "200 OK", "Content-Encoding: gzip"),
            "invalid gzip": http(b"no gzip", "200 OK", "Content-Encoding: gzip"),
            "an unknown encoding": http(chat(), "200 OK", "Content-Encoding: x\x1b[31m"),
            "5 MiB of blanks": http(b" " * (5 << 20)), "5 MiB in chunks": chunked(b"10000\r\n" + b" " * 65536 + b"\r\n") +
            b"".join(b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(90))}.items():
        yield Fault(name, say(raw))
    for name, raw in {
            "100 Continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + http(), "no length, then it closes": HEAD + b"\r\n" +
            json.dumps(chat()).encode(), "chunks with extensions and trailers": chunked(b"%x;a=b\r\n%s\r\n0\r\nT: t\r\n\r\n" % (
                len(json.dumps(chat())), json.dumps(chat()).encode())), "cookies": http(chat(), "200 OK", *["Set-Cookie: a=b"] * 50),
            "bytes after the answer": http() + http(chat("no")), "headers twice": http(chat(), "200 OK", "X: a", "x: b", "X: c"),
            "line feeds alone": http().replace(b"\r\n", b"\n"), "no reason": http(chat(), "200 "), "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" +
            json.dumps(chat()).encode(), "a byte order mark": http(b"\xef\xbb\xbf" + json.dumps(chat()).encode()),
            "UTF-16": http(json.dumps(chat()).encode("utf-16")), "blanks around it": http(b" \r\n\t" + json.dumps(chat()).encode() + b"\n\n"),
            "201": http(chat(), "201 Created"), "the word with a point": http(chat(" Yes.\n"))}.items():
        yield Fault(name, say(raw), answers=True)
    # statuses
    for status in ("101 Switching Protocols", "204 No Content", "205 Reset", "300 Choices", "304 Not Modified", "400 Bad", "401 No",
                   "407 Proxy", "418 Teapot", "429 Slow down", "500 Oops", "503 Away", "600 What", "999 Request denied"):
        yield Fault(f"status {status[:3]}", say(http(b"no", status)))
    yield Fault("status 206", say(http(json.dumps(chat()).encode()[:20], "206 Partial")))
    for status in ("abc", "20", "2000 OK", "-200 OK", "000 Zero", "199 Odd"):
        yield Fault(f"status {status}", say(http(chat(), status)))
    for wait in ("inf", "nan", "-1", "1e400", "soon", "9" * 400):
        yield Fault(f"Retry-After {wait[:6]}", say(http(b"", "429 Slow down", f"Retry-After: {wait}")))
    for code in (301, 302, 303, 307, 308):
        for to in ("http://127.0.0.1:9/", "/v1/chat/completions", "file:///etc/passwd", "//other", "http://[", "\x01\xff", ""):
            yield Fault(f"{code} to {to!r}", say(http(b"", f"{code} Moved", f"Location: {to}")))
    # what is no chat completion
    for name, body in {
            "nothing": b"", "HTML": b"<html>no</html>", "half of it": json.dumps(chat()).encode()[:-9], "invalid UTF-8": b'{"a": "\xff\xfe"}',
            "a number": b"3", "null": b"null", "deep lists": DEEP, "deep objects": b'{"a":' * 100_000, "deep and whole": DEEP + b"]" * 100_000,
            "deep within choices": b'{"choices": [{"message": {"content": ' + DEEP, "a million lists": b"[" + b"[]," * 1_000_000 + b"1]",
            "a huge integer": b'{"choices": ' + b"9" * 100_000 + b"}", "NaN": b'{"choices": NaN}', "two answers": http(b"{}{}"),
            "empty choices": {"choices": []}, "yes and no": chat("yes and no"), "neither": chat("maybe"), "a lone surrogate": chat("\ud800"),
            "control characters": chat("\x1b[2J\x1b]0;title\x07\x08\r\x9b31m\u202emaybe\u2028"), "a very long word": chat("x" * 1_000_000)}.items():
        yield Fault(f"says {name}", say(http(body)))
    for name, wrong in AT_EACH_LEVEL.items():
        yield Fault(f"{name} for choices", say(http({"choices": wrong})))
        yield Fault(f"{name} for a choice", say(http({"choices": [wrong]})))
        yield Fault(f"{name} for a message", say(http({"choices": [{"message": wrong}]})))
        yield Fault(f"{name} for content", say(http(chat(wrong))), answers=name == "a string")
        yield Fault(f"{name} for logprobs", say(http(chat(logprobs=wrong))), answers=True if wrong is None else None)
        yield Fault(f"{name} for tokens", say(http(chat(logprobs={"content": wrong}))), answers=True if wrong is None else None)
        yield Fault(f"{name} for a token", say(http(chat(logprobs={"content": [wrong]}))))
        yield Fault(f"{name} for a likely token", say(http(likely(wrong))))
        yield Fault(f"{name} for a word", say(http(likely({"token": wrong, "logprob": -1}))), answers=name == "a string")
        yield Fault(f"{name} for a log-probability", say(http(likely({"token": "yes", "logprob": wrong}))))
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "0.8", "5", "-" + "9" * 400, "\"-1\"", "-" + "9" * 5000):
        body = json.dumps(likely({"token": "yes", "logprob": 123456})).replace("123456", number).encode()
        yield Fault(f"a log-probability of {number[:9]} ({len(number)})", say(http(body)))
    yield Fault("log-probabilities of -9999", say(http(likely({"token": "yes", "logprob": -9999}))), answers=True)
    # the key, and what a terminal obeys
    for name, written in WRITINGS.items():
        yield Fault(f"echoes the key: {name}", echo(written))
        yield Fault(f"answers the key: {name}", echo(written, "200 OK"))
    for cut in CUTS:
        for shift in (1, 8, 9, 21, 35, 42):
            for pad in "x", " ", "word ", "\x1b":
                before = (pad * cut)[:cut - shift]
                yield Fault(f"echo over character {cut}, {shift} before, after {pad!r}",
                            say(lambda key, before=before: http((before + key).encode(), "401 No")))
    yield Fault("echo in chunks", say(lambda key: b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"1\r\n" + bytes([c]) + b"\r\n" for c in key.encode()) + b"0\r\n\r\n"))
    yield Fault("echo in chunks, cut off", say(lambda key: b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"1\r\n" + bytes([c]) + b"\r\n" for c in key.encode()[:-3])))
    for name, raw in {"status line": "HTTP/1.1 {}\r\n\r\n", "reason": "HTTP/1.1 401 {}\r\nContent-Length: 0\r\n\r\n",
                      "header": "HTTP/1.1 200 OK\r\n{}\r\n\r\n", "header's value": "HTTP/1.1 200 OK\r\nX: \0{}\r\n\r\n",
                      "length": "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", "Location": "HTTP/1.1 302 F\r\nLocation: ht\0{}\r\n\r\n",
                      "encoding": "HTTP/1.1 200 OK\r\nContent-Encoding: {}\r\n\r\n", "chunk size":
                      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n", "protocol": "{}\r\n\r\n",
                      "Retry-After": "HTTP/1.1 429 F\r\nRetry-After: {}\r\nContent-Length: 0\r\n\r\n"}.items():
        yield Fault(f"echo in its {name}", say(lambda key, raw=raw: raw.format(key).encode()))
        yield Fault(f"control characters in its {name}", say(raw.format("\x1b[31m\x07\x9b\u202e").encode()))
    yield Fault("control characters in a refusal", say(http("\x1b[2J\x9b31m\x00\u202e\u2066\r\n\x7f".encode() + b"\xff", "400 Bad")))


FAULTS = list(_table())


class BadServer:
    """Does the fault to every caller until it is closed; `full` never accepts: its queue of callers is full."""

    def __init__(self, fault: Fault | None):
        self.fault, self.over = fault, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=8 if fault else 0)
        self.url = f"{fault.scheme if fault else 'http'}://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.callers = []
        if fault:
            threading.Thread(target=self._serve, daemon=True).start()
        else:
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
        with caller:
            try:
                caller.settimeout(5)
                key = _read(caller) if self.fault.reads else KEY
                self.fault.act(caller, key, self.over)
            except OSError:
                pass  # the caller hung up

    def close(self) -> None:
        self.over.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        except OSError:
            pass
        for one in (self.listener, *self.callers):
            one.close()


def _read(caller: socket.socket) -> str:
    """Reads a whole request; its key."""
    heard = b""
    while b"\r\n\r\n" not in heard and (part := caller.recv(1 << 16)):
        heard += part
    head, _, body = heard.partition(b"\r\n\r\n")
    left = int(re.search(rb"content-length: (\d+)", head, re.I)[1]) - len(body)
    while left > 0 and (part := caller.recv(1 << 16)):
        left -= len(part)
    return re.search(rb"authorization: Bearer (\S+)", head, re.I)[1].decode()


def measure(faults: Iterable[Fault | None] = (*FAULTS, None), at_once: int = 8) -> list[dict]:
    """One row a fault: name, seconds, outcome, word (of the error), leaked (characters), hang, control, fine."""
    with patch.dict(os.environ, {"WM_GYM_VLM_KEY": KEY}), ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(_measured, faults))


_ADDRESS = threading.Lock()  # the environment is one for all threads


def _measured(fault: Fault | None) -> dict:
    server = BadServer(fault)
    try:
        with _ADDRESS, patch.dict(os.environ, {"WM_GYM_VLM_URL": server.url}):
            asked = ServerChat("some/model", TIMEOUT, retries=0)
        started, word = time.monotonic(), ""
        try:
            shares = asked.choose([(PICTURE, PICTURE)], "done?", CHOICES)
            outcome = "yes" if shares.tolist() == [[1, 0]] else f"wrong: {shares.tolist()}"
        except JudgeError as error:
            outcome, word = "JudgeError", str(error)
        except Exception as error:
            outcome, word = type(error).__name__, str(error)
        seconds = time.monotonic() - started
    finally:
        server.close()
    row = {"name": fault.name if fault else "never accepts", "seconds": round(seconds, 3), "outcome": outcome, "word": word,
           "leaked": leaked(word), "hang": seconds > TIMEOUT + GRACE, "control": not word.isprintable()}
    allowed = {True: ["yes"], False: ["JudgeError"], None: ["yes", "JudgeError"]}[fault.answers if fault else False]
    return row | {"fine": outcome in allowed and not (row["leaked"] or row["hang"] or row["control"]) and
                  len(word) <= LONGEST_WORD}


def leaked(word: str, key: str = KEY) -> int:
    """The longest part of the key in the word, in any of the writings above; parts under 8 characters are no leak."""
    plain = html.unescape(unquote(unquote(re.sub(r"\\+(?:u|x)([0-9a-fA-F]{2,4})", r"%\1", word.replace("u00", "x")))))
    views = [word, plain]
    for run in re.findall(r"[\w+/-]{8,}", word, re.ASCII):
        for begin in range(4):
            code = run[begin:][:len(run[begin:]) // 4 * 4]
            views.append(base64.b64decode(code, "-_").decode("latin-1"))
    views += [bytes.fromhex(run[:len(run) // 2 * 2]).decode("latin-1") for run in re.findall("[0-9a-f]{8,}", word.replace(":", ""))]
    views += [re.sub(r"[^\w-]|u200b", "", view, flags=re.ASCII) for view in views]
    views = [text.lower() for view in views for text in (view, view[::-1])]
    lengths = (stop - start for start in range(len(key)) for stop in range(start + PART, len(key) + 1)
               if any(key[start:stop].lower() in view for view in views))
    return max(lengths, default=0)
