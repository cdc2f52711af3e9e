"""How can a stranger's words be shown? On one short line, without a secret, with nothing that a terminal obeys."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

RUN, SCATTERED = 4, 8  # characters of a secret that count as a part of it, in a row and with others between them
LOOKED_AT, SHOWN = 1 << 12, 300  # characters; no number in the first is too long for Python to read (4,300 digits)
WITHHELD = "[withheld: it holds the key in another writing]"
ESCAPES = re.compile(r"\\u\{?([0-9a-f]{4})\}?|(?:\\x|=)([0-9a-f]{2})", re.I)


def shown(text: str, secrets: Iterable[str]) -> str:
    """Text on one line of at most 300 characters, what does not print escaped, every part of a secret as "[key]".

    A part is any run of 4 characters, in either case. Where one is left in another writing (with JSON's, HTML's or a
    URL's escapes, in base64 or hex), or 8 backwards or with something between them, nothing of the text is shown.
    """
    text = " ".join(text.split())
    whole, text = len(text) <= LOOKED_AT, text[:LOOKED_AT]
    secrets = [secret for secret in secrets if secret]
    for secret in secrets:
        text = _masked(text, secret)
    if any(_holds(reading, secret) for reading in _readings(text) for secret in secrets):
        return WITHHELD
    line = text[:SHOWN] if whole else text[:-SHOWN][:SHOWN]  # what was cut in two cannot be told to be a part
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)[:SHOWN]


def _runs(secret: str, length: int) -> set[str]:
    return {secret[i : i + length] for i in range(len(secret) - length + 1)}


def _masked(text: str, secret: str) -> str:
    """Every run of the secret is found, and what they cover together becomes one mark."""
    runs = _runs(secret, min(RUN, len(secret)))
    found = re.compile(f"(?=({'|'.join(map(re.escape, runs))}))", re.I)
    parts: list[str] = []
    end = 0
    for start, stop in [match.span(1) for match in found.finditer(text)]:
        if start > end or not parts:
            parts += [text[end:start], "[key]"]
        end = stop
    return "".join(parts) + text[end:]


def _holds(text: str, secret: str) -> bool:
    """Is there a run of the secret, or 8 of its letters and digits whatever stands between, forwards or backwards?"""
    text, secret = text.lower(), secret.lower()
    if any(run in text for run in _runs(secret, RUN)):
        return True
    text, secret = (re.sub(r"[\W_]+", "", x) for x in (text, secret))
    return any(run in text or run[::-1] in text for run in _runs(secret, SCATTERED))


def _readings(text: str) -> Iterator[str]:
    """What the text may mean: as it is, unescaped up to three times, and each of these from base64 and hex."""
    seen = [text]
    while len(seen) < 4 and (plainer := _unescaped(seen[-1])) != seen[-1]:
        seen.append(plainer)
    for reading in seen:
        yield reading
        yield from _from_base64(reading)
        yield from _from_hex(reading)


def _unescaped(text: str) -> str:
    text = html.unescape(unquote_to_bytes(text.encode("utf-8", "replace")).decode("utf-8", "replace"))
    return ESCAPES.sub(lambda escape: chr(int(escape[1] or escape[2], 16)), text)


def _from_base64(text: str) -> Iterator[str]:
    for run in re.findall(r"[\w+/]{6,}", re.sub(r"\\[nr]|\s", "", text).replace("-", "+"), re.ASCII):
        for begin in range(4):  # where a group of four begins is not known
            code = run[begin:].replace("_", "/")
            yield base64.b64decode(code + "A" * (-len(code) % 4)).decode("latin-1")


def _from_hex(text: str) -> Iterator[str]:
    for run in re.findall(r"[0-9a-f]{8,}", re.sub(r"0x|\\x|[\s:,-]", "", text.lower())):
        for begin in range(2):
            code = run[begin:]
            yield bytes.fromhex(code[: len(code) // 2 * 2]).decode("latin-1")
