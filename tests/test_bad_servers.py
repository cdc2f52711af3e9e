"""Does the judge end in time, in its own words and without its key, whatever its server does?"""

from __future__ import annotations

import asyncio
import re
import sys

import bad_servers
import pytest
from bad_servers import KEY, PART, PICTURE, BadServer, leaked, measure
from hypothesis import example, given, settings
from hypothesis import strategies as st
from server_faults import FAULTS, WRITINGS, Fault, http, say

from wm_gym.judges import make_judge
from wm_gym.judges.hiding import LOOKED_AT, SHOWN, shown
from wm_gym.judges.vlm_server import ServerChat


@pytest.fixture(scope="module")
def rows():
    return {row["name"]: row for row in measure()}


def test_every_fault_is_met_once(rows):
    assert len(rows) == len(FAULTS) + 2 > 500  # one that never accepts, and what all left in the logs


@pytest.mark.parametrize("wrong", ["hang", "raw", "leaked", "control"])
def test_none_hangs_none_raises_another_error_none_leaks(rows, wrong):
    assert not {name: row["word"] or row["seconds"] for name, row in rows.items() if row[wrong]}


def test_each_is_understood_or_refused_as_it_ought_to_be(rows):
    assert [row for row in rows.values() if not row["fine"]] == []


@pytest.mark.parametrize(
    "name,says",
    [
        ("drips its trailers", "no whole answer within 0.8 s"),
        ("floods its 100 Continue", "no whole answer within 0.8 s"),
        ("drips its refusal's body", r"refuses \(HTTP 401: no"),
        ("never accepts", "no whole answer|ConnectTimeout"),
        ("says deep and whole", "JSON that is nested too deeply"),
        ("says control characters", r"\\x1b\[2J.*title"),
        ("2 MiB of blanks", "more than 1 MiB"),
        ("refuses with the key: its ends", r"HTTP 401: .*\[key\]\.\.\.\[key\]"),
        ("refuses with the key: base64", "holds the key in another writing"),
        ("302 to '/v1/chat/completions'", "HTTP 302"),
    ],
)
def test_the_error_says_what_happened(rows, name, says):
    assert re.search(says, rows[name]["word"])


@pytest.mark.parametrize("name", WRITINGS)
def test_a_key_in_any_writing_would_be_seen(name):
    assert leaked(f"x {WRITINGS[name](KEY)} y") >= {"its ends": 7, "its last 5 escaped": 5}.get(name, 16)


def test_a_leak_a_hang_and_another_error_would_be_seen(monkeypatch):
    echoing = Fault("echoes", say(lambda key: http(key.encode(), "401 No")))
    monkeypatch.setattr("wm_gym.judges.vlm_server.shown", lambda text, secrets: text)
    assert [row["leaked"] for row in measure([echoing])] == [len(KEY), 0]
    monkeypatch.setattr("wm_gym.judges.vlm_server.shown", lambda text, secrets: int(text))
    assert [row["raw"] for row in measure([echoing])] == [True, False]
    monkeypatch.setattr(bad_servers, "GRACE", -0.7)
    assert all(row["hang"] for row in measure([Fault("is silent", lambda caller, key, over: over.wait())]))


around = st.one_of(
    st.text(max_size=40),
    st.text(" x\x1b%\\&#[]", max_size=40),
    st.integers(0, 2 * LOOKED_AT).map(lambda n: " " * n),
    st.integers(0, SHOWN).map(lambda n: "word " * n),
)


@settings(max_examples=200, deadline=None)
@given(around, st.sampled_from(sorted(WRITINGS)), around)
@example("x" * (SHOWN - 21), "plain", "")
@example(" " * (LOOKED_AT - 21), "plain", "")
@example(KEY * (LOOKED_AT // len(KEY)), "spaced", "")
@example("&#" + "9" * 5000 + ";", "plain", "")
def test_what_is_shown_is_one_short_line_without_a_part_of_the_key(before, writing, after):
    line = shown(before + WRITINGS[writing](KEY) + after, [KEY])
    assert leaked(line) < PART and len(line) <= SHOWN and line.isprintable()


def test_words_without_a_key_are_shown_as_they_are():
    said = 'The model "a/b" was not found (request 7f3c9a); models: c, d. Höhe 3 µm'
    assert shown(said, [KEY]) == shown(said, []) == shown(said, ["", "x-y"]) == said


def test_it_answers_within_a_loop_that_runs(monkeypatch):
    """As in a notebook."""
    server = BadServer(Fault("none", say(http())))
    monkeypatch.setenv("WM_GYM_VLM_URL", server.url)
    monkeypatch.setenv("WM_GYM_VLM_KEY", KEY)

    async def cell():
        return ServerChat("some/model", 5.0).choose([(PICTURE, PICTURE)] * 20, "done?", ("yes", "no"))

    try:
        assert asyncio.run(cell()).tolist() == [[1, 0]] * 20
    finally:
        server.close()


def test_without_the_library_it_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.delitem(sys.modules, "wm_gym.judges.vlm_server")
    with pytest.raises(ImportError, match=r"pip install 'wm-gym\[judge-server\]'"):
        make_judge("vlm:server:some/model", task="make it red")
