"""The server: right answers, one line for what is wrong, and nothing hangs or kills it."""

import contextlib
import http.client
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from smallnets.deploy import card, serve
from smallnets.deploy.behind import Behind, confidence, threshold
from smallnets.deploy.serve import Server

WEIGHTS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
CARD = {
    "kind": "classes",
    "classes": ["a", "b", "c"],
    "input": {"shape": [3, 2], "dtype": "float32"},
    "output": {"shape": [3]},
    "files": {"model.onnx": {"batch": "any"}},
    "threshold": 0.6,
    "watts_of_a_core": 2.0,
}


def program(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), 6) @ WEIGHTS


@contextmanager
def serving(program=program, **options) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), CARD, program, "model.onnx", **options)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def address(server: Server) -> tuple[str, int]:
    host, port = server.server_address[:2]
    return str(host), port


def ask(server: Server, body: bytes, kind: str = "application/json", path: str = "/answer"):
    connection = http.client.HTTPConnection(*address(server), timeout=10)
    connection.request("POST", path, body, {"Content-Type": kind})
    reply = connection.getresponse()
    said = reply.read()
    connection.close()
    return reply.status, said


def inputs(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, 2)).astype(np.float32)


def test_numbers_and_json_give_the_programs_answers():
    x = inputs(5)
    with serving() as server:
        status, said = ask(server, x.tobytes(), "application/octet-stream")
        assert status == 200
        np.testing.assert_array_equal(np.frombuffer(said, "<f4").reshape(5, 3), program(x))
        status, said = ask(server, json.dumps({"inputs": x.tolist()}).encode())
        found = json.loads(said)
        assert status == 200
        np.testing.assert_allclose(found["logits"], program(x), rtol=1e-6)
        assert found["answers"] == ["abc"[i] for i in program(x).argmax(axis=1)]
        assert server.health()["answered"] == 10


BAD = {
    b"": 400,
    b"{": 400,
    b"[1, 2]": 400,
    b'{"inputs": []}': 400,
    b'{"inputs": [[1, 2], [3, 4], [5, 6]]}': 400,
    b'{"inputs": [[[1, 2], [3, 4], [5]]]}': 400,
    b'{"inputs": [[[1, 2], [3, 4], [5, NaN]]]}': 400,
    b'{"inputs": [[[1, 2], [3, 4], [5, 1e99]]]}': 400,
    b'{"inputs": [[["1", 2], [3, 4], [5, 6]]]}': 400,
    b"[" * 100_000: 400,
    b'{"inputs": ' + b" " * 2_000_000: 413,
}


@pytest.mark.parametrize("body", BAD, ids=lambda body: str(body[:40]))
def test_what_cant_be_answered_gets_one_line(body: bytes):
    with serving() as server:
        try:
            status, said = ask(server, body)
        except (ConnectionError, BrokenPipeError):
            assert BAD[body] == 413  # closed while it was still being sent
            return
    assert status == BAD[body]
    assert len(json.loads(said)["error"].splitlines()) == 1


@pytest.mark.slow
def test_a_thousand_malformed_bodies_and_dropped_connections_leave_it_well():
    """Each gets a status from 400 on or is closed; generated, the same each time."""
    draw = random.Random(0)
    whole = json.dumps({"inputs": inputs(2).tolist()}).encode()
    statuses = set()
    with serving(timeout=2.0) as server:
        for number in range(1000):
            body = bytearray(whole)
            for _ in range(draw.randint(1, 8)):
                body[draw.randrange(len(body))] = draw.choice(b'{}[]",:x\x00\xff')
            if number % 3 == 0:
                body = body[: draw.randrange(len(body))]
            raw = number % 5 == 0
            kind = "application/octet-stream" if raw else "application/json"
            if raw and not len(body) % 24:
                continue
            status, said = ask(server, bytes(body), kind)
            statuses.add(status)
            if status != 200:  # a digit may have become another number
                assert 400 <= status < 500
                assert len(json.loads(said)["error"].splitlines()) == 1
        for number in range(200):
            with socket.create_connection(address(server)) as connection:
                head = b"POST /answer HTTP/1.1\r\nContent-Length: 500\r\n\r\n" + whole[:300]
                connection.sendall(head[: draw.randrange(1, len(head))])
                if number % 2:  # reset, not closed
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        status, said = ask(server, whole)
        assert status == 200
        assert 400 in statuses


def test_a_slow_request_is_closed_and_holds_up_no_other():
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(timeout=0.6))
        slow = stack.enter_context(socket.create_connection(address(server)))
        slow.sendall(b"POST /answer HTTP/1.1\r\nContent-Length: 500\r\n\r\n")
        assert ask(server, inputs(1).tobytes(), "application/octet-stream")[0] == 200
        slow.settimeout(5)
        start = time.monotonic()
        for _ in range(8):  # a byte at a time keeps it no longer
            try:
                slow.sendall(b" ")
                time.sleep(0.2)
            except OSError:
                break
        while True:
            try:
                if not slow.recv(1000):
                    break
            except ConnectionError:
                break
        assert time.monotonic() - start < 4


def test_only_unsure_answers_are_asked_of_the_model_behind():
    x = inputs(40)
    own = program(x)
    unsure = confidence(own) < CARD["threshold"]
    assert 0 < unsure.sum() < 40
    with serving(lambda x: -program(x)) as large:
        url = "http://{}:{}".format(*address(large))
        with serving(behind=Behind(url, CARD, None, 5.0)) as small:
            _, said = ask(small, x.tobytes(), "application/octet-stream")
            found = np.frombuffer(said, "<f4").reshape(40, 3)
            np.testing.assert_array_equal(found, np.where(unsure[:, None], -own, own))
            whole = small.health()
            health, own = whole["behind"], whole["joules_an_answer"]
            assert health["share_sent_on"] == unsure.mean()
            assert health["seconds_an_answer"] > 0
            assert large.answered == unsure.sum()
            assert own == 2 * small.cpu / 40 > 0
            assert health["joules_an_answer"] == 2 * large.cpu / large.answered > 0
            both = own + unsure.mean() * health["joules_an_answer"]
            assert whole["joules_of_both"] == pytest.approx(both)
    assert threshold(program(x), 0.25) == np.quantile(confidence(program(x)), 0.25)


def test_where_the_model_behind_is_gone_the_request_says_so():
    with serving() as gone:
        url = "http://{}:{}".format(*address(gone))
    with serving(behind=Behind(url, CARD, 1.0, 1.0)) as small:
        status, said = ask(small, inputs(2).tobytes(), "application/octet-stream")
        health = small.health()
    assert status == 502
    assert "behind" in json.loads(said)["error"]
    assert health["joules_of_both"] is None


@pytest.mark.parametrize(
    "url", ["ftp://a", "localhost:80", "http://", "http://a:99999", "http://a:1/b"]
)
def test_an_address_that_is_none_is_refused(url: str):
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        Behind(url, CARD, None, 1.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "99999"], "--port lies in 0 to 65535"),
        (["--timeout", "nan"], "--timeout is above 0 seconds"),
        (["--largest", "0"], "--largest is at least 1 byte"),
        (["--behind", "http://a", "--threshold", "nan"], r"--threshold lies in \[0, 1\]"),
        (["--threshold", ".5"], "add --behind URL"),
        (["--program", "model.nix"], "has no program model.nix"),
        (["--host", "nowhere.invalid", "--here"], "can't be listened at"),
    ],
)
def test_words_that_are_wrong_are_refused(words: list[str], said: str, tmp_path: Path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"program")
    card.write({**CARD, "files": {"model.onnx": {"batch": "any"}}}, tmp_path)
    monkeypatch.setattr(serve.runtime, "load", lambda path: program)
    with pytest.raises(ValueError, match=said):
        serve.main([str(tmp_path), *words])
