"""How can a judge's server misbehave? A table of ways, each of them what is really done with a socket."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

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


def chat(content: object = "yes", **more: object) -> dict:
    return {"choices": [{"message": {"role": "assistant", "content": content}, **more}]}


def likely(*tokens: object) -> dict:
    return chat(logprobs={"content": [{"token": "yes", "logprob": 0, "top_logprobs": list(tokens)}]})


def http(body: bytes | object = chat(), status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(chunks: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


def each_byte(text: str) -> bytes:
    """Chunks of one byte."""
    return b"".join(b"1\r\n%c\r\n" % byte for byte in text.encode())


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


def echo(written: Callable[[str], str], status: str) -> Act:
    return say(lambda key: http(b'{"error": "%s"}' % written(key).encode("utf-8", "replace"), status))


HEAD, YES = b"HTTP/1.1 200 OK\r\n", json.dumps(chat()).encode()
EARLY = {"100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n", "103 Early Hints": b"HTTP/1.1 103 H\r\nLink: a\r\n\r\n"}
NEVER_WHOLE = {  # what comes first, and what then comes again and again
    "status line": (b"HTTP/1.1 200 O", b"K"),
    "headers": (HEAD, b"X: y\r\n"),
    "one header": (HEAD + b"X: ", b"y"),
    "header name": (HEAD, b"X"),
    "body": (http(length=5000)[:-20], b" "),
    "body until it closes": (HEAD + b"\r\n", b" "),
    "chunk size": (chunked(b""), b"0"),
    "chunk extension": (chunked(b"5;"), b"a"),
    "chunks": (chunked(b""), b"1\r\n \r\n"),
    "trailers": (chunked(b"1\r\n \r\n0\r\n"), b"T: t\r\n"),
    "refusal's body": (http(b"no", "401 No", length=5000), b"."),
    "refusal's chunks": (chunked(b"", b"500 Oops"), b"1\r\n.\r\n"),
    "redirection's body": (http(b"", "302 Found", "Location: /", length=5000), b"."),
    "blank lines first": (b"", b"\r\n"),
    **{name: (b"", early) for name, early in EARLY.items()},
}
BROKEN_OFF = {
    "status": b"HTTP/1.1 2",
    "headers": HEAD + b"Content-Le",
    "body": http()[:-9],
    "chunk": chunked(b"ff\r\n{"),
    "100 Continue": EARLY["100 Continue"],
}
TLS_HELLO, TLS_ALERT = bytes.fromhex("160303007a0200007603030102"), bytes.fromhex("15030300020228")
NO_HTTP = {
    "HTTP/0.9": YES,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "binary": bytes(range(256)) * 9,
    "SSH": b"SSH-2.0-x\r\n",
    "TLS where HTTP is due": TLS_HELLO,
    "a header of 10 MB": HEAD + b"X: " + b"y" * 10_000_000 + b"\r\n\r\n",
    "a header without a colon": HEAD + b"X\r\n\r\n",
    "100,000 headers": HEAD + b"X: y\r\n" * 100_000 + b"\r\n",
    "NUL in a header": http(chat(), "200 OK", "X: \0"),
    "a space before the colon": http(chat(), "200 OK", "X : y"),
    "folded first header": HEAD + b" X: y\r\n\r\n",
    "two lengths": http(chat(), "200 OK", "Content-Length: 3"),
    "a negative length": http(length=-5),
    "a length in words": http().replace(b"Content-Length: ", b"Content-Length: x"),
    "a length of 10^30": http(length=10**30),
    "a length of 4,000 digits": http(length=9 * 10**3999),
    "too long a length": http(length=5000),
    "too short a length": http(length=20),
    "a length of 0": http(length=0),
    "a huge chunk size": chunked(b"f" * 15 + b"\r\n{}"),
    "a chunk size of 30 digits": chunked(b"f" * 30 + b"\r\n{}"),
    "a negative chunk size": chunked(b"-5\r\nhello\r\n"),
    "an invalid chunk size": chunked(b"xyz\r\nhello\r\n"),
    "a chunk without its end": chunked(b"2\r\n{}3\r\n"),
    "no last chunk": chunked(b"2\r\n{}\r\n"),
    "an unknown transfer encoding": http(chat(), "200 OK", "Transfer-Encoding: gzip"),
    "gzip that nobody asked for": http(gzip.compress(YES), "200 OK", "Content-Encoding: gzip"),
    "a gzip bomb": http(gzip.compress(bytes(1 << 26)), "200 OK", "Content-Encoding: gzip"),
    "invalid gzip": http(b"no gzip", "200 OK", "Content-Encoding: gzip"),
    "an unknown encoding": http(chat(), "200 OK", "Content-Encoding: x\x1b[31m"),
    "2 MiB of blanks": http(b" " * (2 << 20)),
    "2 MiB in chunks": chunked((b"10000\r\n" + b" " * 65536 + b"\r\n") * 32),
}
ODD_BUT_RIGHT = {
    "100 Continue first": EARLY["100 Continue"] + http(),
    "no length, then it closes": HEAD + b"\r\n" + YES,
    "chunks with extensions and trailers": chunked(b"%x;a=b\r\n%s\r\n0\r\nT: t\r\n\r\n" % (len(YES), YES)),
    "cookies": http(chat(), "200 OK", *["Set-Cookie: a=b"] * 50),
    "bytes after the answer": http() + http(chat("no")),
    "headers twice": http(chat(), "200 OK", "X: a", "x: b", "X: c"),
    "line feeds alone": http().replace(b"\r\n", b"\n"),
    "no reason": http(chat(), "200 "),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + YES,
    "a byte order mark": http(b"\xef\xbb\xbf" + YES),
    "UTF-16": http(json.dumps(chat()).encode("utf-16")),
    "blanks around it": http(b" \r\n\t" + YES + b"\n\n"),
    "201": http(chat(), "201 Created"),
    "the word with a point": http(chat(" Yes.\n")),
    "log-probabilities of -9999": http(likely({"token": "yes", "logprob": -9999})),
}
NO_SUCCESS = (
    "101 Switching Protocols",
    "204 No Content",
    "205 Reset",
    "300 Choices",
    "304 Not Modified",
    "400 Bad",
    "401 No",
    "407 Proxy",
    "418 Teapot",
    "429 Slow down",
    "500 Oops",
    "503 Away",
    "600 What",
    "999 Denied",
)
NO_STATUS = ("abc", "20", "2000 OK", "-200 OK", "000 Zero", "199 Odd")
NO_PAUSE = ("inf", "nan", "-1", "1e400", "soon", "9" * 400)
ELSEWHERE = ("http://127.0.0.1:9/", "/v1/chat/completions", "file:///etc/passwd", "//other", "http://[", "\x01\xff", "")
NO_CHAT = {
    "nothing": b"",
    "HTML": b"<html>no</html>",
    "half of it": YES[:-9],
    "invalid UTF-8": b'{"a": "\xff\xfe"}',
    "a number": b"3",
    "null": b"null",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and whole": b"[" * 100_000 + b"]" * 100_000,
    "deep within choices": b'{"choices": [{"message": {"content": ' + b"[" * 100_000,
    "300,000 lists": b"[" + b"[]," * 300_000 + b"1]",
    "a huge integer": b'{"choices": ' + b"9" * 100_000 + b"}",
    "NaN": b'{"choices": NaN}',
    "two answers": b"{}{}",
    "empty choices": {"choices": []},
    "yes and no": chat("yes and no"),
    "neither": chat("maybe"),
    "a lone surrogate": chat("\ud800"),
    "a lone surrogate, escaped twice": chat("\\ud800 %ud800 \\xff"),
    "an entity of 5,000 digits": chat("&#" + "9" * 5000 + ";"),
    "an entity without a character": chat("&#x110000; &#0; &#xd800;"),
    "control characters": chat("\x1b[2J\x1b]0;title\x07\x08\r\x9b31m\u202emaybe\u2028"),
    "a very long word": chat("x" * 900_000),
}
AT_EACH_LEVEL = {"null": None, "a number": 3, "a string": "yes", "true": True, "a list": [[]], "an object": {"a": {}}}
NO_LOG = ("NaN", "Infinity", "-Infinity", "1e999", "0.8", "5", "-" + "9" * 400, '"-1"', "-" + "9" * 5000)
WRITINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "twice": lambda key: key + key,
    "400 times": lambda key: key * 400,
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
    "a list of letters": lambda key: ", ".join(f"'{c}'" for c in key),
    "invisible between": lambda key: "\u200b".join(key),
    "without its first 9": lambda key: key[9:],
    "its first 30": lambda key: key[:30],
    "its middle": lambda key: "x" + key[11:32] + "x",
    "its ends": lambda key: f"{key[:7]}...{key[-4:]}",
    "its last 5 escaped": lambda key: "".join(f"%{ord(c):02x}" for c in key[-5:]),
}
CUTS = (100, 200, 300, 2000, 4096, 8192, 1 << 16)
WHERE_IT_STANDS = {
    "status line": "HTTP/1.1 {}\r\n\r\n",
    "reason": "HTTP/1.1 401 {}\r\nContent-Length: 0\r\n\r\n",
    "protocol": "{}\r\n\r\n",
    "header": "HTTP/1.1 200 OK\r\n{}\r\n\r\n",
    "header's value": "HTTP/1.1 200 OK\r\nX: \0{}\r\n\r\n",
    "good header": "HTTP/1.1 401 No\r\nX-Key: {}\r\nContent-Length: 0\r\n\r\n",
    "length": "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
    "Location": "HTTP/1.1 302 F\r\nLocation: ht\0{}\r\n\r\n",
    "encoding": "HTTP/1.1 200 OK\r\nContent-Encoding: {}\r\n\r\n",
    "transfer encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: {}\r\n\r\n",
    "chunk size": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n",
    "Retry-After": "HTTP/1.1 429 F\r\nRetry-After: {}\r\nContent-Length: 0\r\n\r\n",
}


def _slow() -> Iterator[Fault]:
    yield Fault("silent", hold(b""), reads=False)
    yield Fault("silent once it has read", hold(b""))
    for stage, (before, piece) in NEVER_WHOLE.items():
        yield Fault(f"drips its {stage}", drip(before, piece))
        yield Fault(f"floods its {stage}", flood(before, piece))
    yield Fault("silent where TLS is due", hold(b""), scheme="https", reads=False)
    yield Fault("drips its TLS hello", drip(TLS_HELLO, b"\0"), scheme="https", reads=False)


def _cut_off() -> Iterator[Fault]:
    for stage, before in BROKEN_OFF.items():
        yield Fault(f"stops in its {stage}", hold(before))
        yield Fault(f"closes in its {stage}", say(before))
        yield Fault(f"resets in its {stage}", reset(before))
        yield Fault(f"half closes in its {stage}", half_closed(before))
    yield Fault("resets at once", reset(b""), reads=False)
    yield Fault("closes at once", say(b""), reads=False)
    yield Fault("answers before it reads", say(http()), answers=None, reads=False)
    yield Fault("half closes after its answer", half_closed(http()), answers=True)
    yield Fault("keeps open after its answer", hold(http()), answers=True)


def _protocol() -> Iterator[Fault]:
    yield Fault("plain HTTP where TLS is due", say(http()), scheme="https", reads=False)
    yield Fault("a TLS alert", say(TLS_ALERT), scheme="https", reads=False)
    yield Fault("HTTP/9.9", say(http().replace(b"HTTP/1.1", b"HTTP/9.9")), answers=None)
    yield from (Fault(name, say(raw)) for name, raw in NO_HTTP.items())
    yield from (Fault(name, say(raw), answers=True) for name, raw in ODD_BUT_RIGHT.items())
    yield from (Fault(f"status {status[:3]}", say(http(b"no", status))) for status in NO_SUCCESS)
    yield from (Fault(f"status {status!r}", say(http(chat(), status))) for status in NO_STATUS)
    yield Fault("status 206", say(http(YES[:20], "206 Partial")))
    for wait in NO_PAUSE:
        yield Fault(f"Retry-After {wait[:6]}", say(http(b"", "429 Slow down", f"Retry-After: {wait}")))
    for code in (301, 302, 303, 307, 308):
        for to in ELSEWHERE:
            yield Fault(f"{code} to {to!r}", say(http(b"", f"{code} Moved", f"Location: {to}")))


def _answers() -> Iterator[Fault]:
    for name, body in NO_CHAT.items():
        yield Fault(f"says {name}", say(http(body)))
        yield Fault(f"refuses with {name}", say(http(body, "400 Bad")))
    for name, wrong in AT_EACH_LEVEL.items():
        null, word = wrong is None or None, wrong == "yes"
        yield Fault(f"{name} for choices", say(http({"choices": wrong})))
        yield Fault(f"{name} for a choice", say(http({"choices": [wrong]})))
        yield Fault(f"{name} for a message", say(http({"choices": [{"message": wrong}]})))
        yield Fault(f"{name} for content", say(http(chat(wrong))), answers=word)
        yield Fault(f"{name} for logprobs", say(http(chat(logprobs=wrong))), answers=null)
        yield Fault(f"{name} for tokens", say(http(chat(logprobs={"content": wrong}))), answers=null)
        yield Fault(f"{name} for a token", say(http(chat(logprobs={"content": [wrong]}))))
        yield Fault(f"{name} for a likely token", say(http(likely(wrong))))
        yield Fault(f"{name} for a word", say(http(likely({"token": wrong, "logprob": -1}))), answers=word)
        yield Fault(f"{name} for a log-probability", say(http(likely({"token": "yes", "logprob": wrong}))))
    for number in NO_LOG:
        body = json.dumps(likely({"token": "yes", "logprob": 123456})).replace("123456", number).encode()
        yield Fault(f"a log-probability of {number[:9]} ({len(number)} characters)", say(http(body)))


def _echoes() -> Iterator[Fault]:
    """The key, and what a terminal obeys."""
    for name, written in WRITINGS.items():
        yield Fault(f"refuses with the key: {name}", echo(written, "401 Unauthorized"))
        yield Fault(f"answers the key: {name}", echo(written, "200 OK"))
    for cut in CUTS:
        for shift in (1, 3, 8, 21, 35, 42):
            for pad in "x", " ", "word ", "\x1b":
                before = (pad * cut)[: cut - shift].encode()
                yield Fault(
                    f"echo over character {cut}, {shift} before, after {pad!r}",
                    say(lambda key, before=before: http(before + key.encode(), "401 No")),
                )
    yield Fault("echo in chunks", say(lambda key: chunked(each_byte(key) + b"0\r\n\r\n", b"401 No")))
    yield Fault("echo in chunks, cut off", say(lambda key: chunked(each_byte(key[:-3]), b"401 No")))
    for name, raw in WHERE_IT_STANDS.items():
        yield Fault(f"echo in its {name}", say(lambda key, raw=raw: raw.format(key).encode()))
        yield Fault(f"control characters in its {name}", say(raw.format("\x1b[31m\x07\x9b\u202e").encode()))
    yield Fault(
        "control characters in a refusal",
        say(http("\x1b[2J\x9b31m\0\u202e\u2066\r\n\x7f".encode() + b"\xff", "400 Bad")),
    )


FAULTS = [*_slow(), *_cut_off(), *_protocol(), *_answers(), *_echoes()]
