"""Does the judge behind a server outlast a bad server, keep to its budget and its key to itself? A real one on HTTP."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from own_judges import frames_of
from PIL import Image
from small_agent import train_small

from wm_gym.judges import JudgeError, make_judge, vlm_server
from wm_gym.policies.agent import TENSORS_FILE

KEY = "sk-very-secret-0123456789"


class Server(ThreadingHTTPServer):
    """Answers chats by the redness of the second picture; `faults` are ways to fail, one a request, before that."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.faults, self.always, self.asked, self.keys, self.logprobs = [], None, [], [], True
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request, client_address):
        """Callers that hang up are part of the tests."""


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))
        self.server.keys.append(self.headers.get("Authorization"))
        fault = self.server.faults.pop(0) if self.server.faults else self.server.always
        if callable(fault):
            return fault(self)
        if isinstance(fault, int):
            return self.say(fault, f"no, {self.headers.get('Authorization')}".encode())
        if isinstance(fault, bytes):
            return self.say(200, fault)
        self.say(200, json.dumps(self.judged()).encode())

    def judged(self) -> dict:
        *pictures, question = self.server.asked[-1]["messages"][0]["content"]
        png = base64.b64decode(pictures[1]["image_url"]["url"].split(",")[1])
        red = float(np.asarray(Image.open(io.BytesIO(png)))[..., 0].mean() / 255)
        if "digit" in question["text"]:
            shares = {str(int(5 * red)): 0.9, "x": 0.1}
        else:
            done = "remain" not in question["text"]
            red = min(max(red, 0.01), 0.99)
            shares = {
                "Yes": 0.6 * (red if done else 1 - red),
                " yes": 0.2 * (red if done else 1 - red),
                "No": 0.8 * (1 - red if done else red),
                "Maybe": 0.2,
            }
        word = max(shares, key=shares.get)
        top = [{"token": token, "logprob": math.log(p)} for token, p in shares.items()]
        logprobs = {"content": [{"token": word, "logprob": 0, "top_logprobs": top}]} if self.server.logprobs else None
        return {"choices": [{"message": {"content": f" {word}."}, "logprobs": logprobs}]}

    def say(self, code: int, answer: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """No words on the tests' output."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(vlm_server, "BACKOFF", 0.01)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as one:
        monkeypatch.setenv("WM_GYM_VLM_URL", one.url + "/")
        monkeypatch.setenv("WM_GYM_VLM_KEY", KEY)
        yield one
        one.shutdown()


def judge(**kwargs):
    return make_judge("vlm:server:some/model", task="make it red", **{"votes": 2, "timeout": 5.0, **kwargs})


def test_probabilities_are_read_off_the_server(server):
    asked = judge()
    verdict = asked(frames_of(0, 51, 204), frames_of(0, 0, 0))
    np.testing.assert_allclose(verdict.score, [0.01, 0.2, 0.8], atol=1e-6)
    np.testing.assert_allclose(verdict.progress, [0, 0.2, 0.8], atol=1e-6)
    assert verdict.success.tolist() == [False, False, True]
    assert len(server.asked) == asked.chat.spent == 9 and set(server.keys) == {f"Bearer {KEY}"}
    assert server.asked[0]["model"] == "some/model" and "make it red" in str(server.asked[0]["messages"])
    asked(frames_of(51), frames_of(0))
    assert len(server.asked) == 9


def test_a_server_without_probabilities_answers_in_words(server):
    server.logprobs = False
    verdict = judge()(frames_of(0, 255), frames_of(0, 0))
    assert verdict.score.tolist() == [0, 1] and verdict.progress.tolist() == [0, 1]


def too_slow(request):
    time.sleep(1)


def dripping(request):
    """Each byte comes in time, the answer never does."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    for _ in range(30):
        request.wfile.write(b" ")
        time.sleep(0.05)


def hanging_up(request):
    request.connection.close()


FAULTS = [
    500,
    503,
    429,
    b"<html>",
    b"{}",
    b'{"choices": []}',
    b'{"choices": [{"message": {"content": null}}]}',
    b"[1]",
    b'{"choices": [{"message": {"content": "yes and no"}}]}',
    b"\xff\xfe",
    b"",
    too_slow,
    dripping,
    hanging_up,
    b'{"choices": [{"message": {"content": "yes"}, "logprobs": {"content": [{"token": 3}]}}]}',
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: getattr(fault, "__name__", str(fault)))
def test_it_asks_again_and_then_gives_up(server, fault):
    server.faults = [fault]
    np.testing.assert_allclose(judge(timeout=0.4)(frames_of(51), frames_of(0)).score, 0.2, atol=1e-6)
    assert len(server.asked) == 4
    server.always = fault
    with pytest.raises(JudgeError, match=r"127.0.0.1:\d+/v1 did not answer in 2 attempts; the last time: \S") as error:
        judge(timeout=0.4, retries=1)(frames_of(51), frames_of(0))
    assert KEY not in str(error.value) and len(server.asked) == 6


def test_what_is_refused_is_not_asked_again(server, caplog, capfd):
    for code in (400, 401, 404):
        server.always = code
        with pytest.raises(JudgeError, match=rf"refuses \(HTTP {code}: no, Bearer \[key\]\).*WM_GYM_VLM_KEY") as error:
            judge()(frames_of(51), frames_of(0))
        assert KEY not in "".join(map(str, [error.value, error.value.__cause__, caplog.text, *capfd.readouterr()]))
    assert len(server.asked) == 3
    server.always = lambda request: request.say(302, b"", Location=server.url + "/elsewhere")
    with pytest.raises(JudgeError, match="HTTP 302"):
        judge()(frames_of(51), frames_of(0))
    assert len(server.asked) == 4
    assert KEY not in str(vars(judge())) + str(vars(judge().chat))


def test_it_waits_as_long_as_it_is_told(server):
    server.faults = [lambda request: request.say(429, b"", Retry_After="0.5")]
    started = time.monotonic()
    judge()(frames_of(51), frames_of(0))
    assert time.monotonic() - started > 0.5


def test_a_budget_is_kept(server):
    asked = judge(budget=5)
    asked(frames_of(1), frames_of(0))
    with pytest.raises(JudgeError, match="budget of 5 requests is spent"):
        asked(frames_of(2), frames_of(0))
    assert len(server.asked) == 5
    server.always = 500
    with pytest.raises(JudgeError, match="budget of 2 requests is spent .the last answer: HTTP 500"):
        judge(budget=2)(frames_of(3), frames_of(0))
    assert len(server.asked) == 7


def test_nobody_is_there(monkeypatch, server):
    monkeypatch.setenv("WM_GYM_VLM_URL", "http://user:" + KEY + "@127.0.0.1:9/v1")
    with pytest.raises(JudgeError, match="http://127.0.0.1:9/v1 did not answer in 2 attempts") as error:
        judge(retries=1)(frames_of(1), frames_of(0))
    assert KEY not in str(error.value)
    monkeypatch.setenv("WM_GYM_VLM_URL", "localhost:8000")
    with pytest.raises(ValueError, match="no address of a server"):
        judge()
    monkeypatch.delenv("WM_GYM_VLM_URL")
    with pytest.raises(ValueError, match="export WM_GYM_VLM_URL="):
        judge()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    judge()(frames_of(1), frames_of(0))
    for kwargs, says in [({"timeout": 0}, "timeout=0"), ({"retries": -1}, "retries=-1"), ({"budget": 0}, "budget=0")]:
        with pytest.raises(ValueError, match=says):
            judge(**kwargs)
    with pytest.raises(ValueError, match="names no model"):
        make_judge("vlm:server:", task="make it red")


def test_a_training_outlives_its_server(server, tmp_path, world_folder):
    """The server goes away for good in the middle; back again, the resumed training ends where an unbroken one does."""
    reward = {"reward": "vlm:server:some/model", "reward_kwargs": {"votes": 1, "retries": 1, "timeout": 5.0}}
    whole = train_small(tmp_path / "whole", world_folder, more=reward)
    requests = len(server.asked)
    server.faults = [None] * (requests // 2)
    server.always = 500
    with pytest.raises(JudgeError, match="(?s)did not answer in 2 attempts.*checkpoint-0000000.*--resume"):
        train_small(tmp_path / "cut", world_folder, more=reward)
    assert list((tmp_path / "cut.training").glob("checkpoint-*"))
    server.always = None
    resumed = train_small(tmp_path / "cut", world_folder, more=reward, resume=True)
    assert (resumed / TENSORS_FILE).read_bytes() == (whole / TENSORS_FILE).read_bytes()
