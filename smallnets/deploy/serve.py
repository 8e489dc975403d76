"""An artefact over HTTP, by the standard library: JSON or raw numbers in, logits out.

    GET /health    what is served, what it has answered so far, and what an answer took: seconds of
                   the program, joules of the request (a model: CPU-seconds of its thread times the
                   card's watts of a core)
    GET /card      the artefact's card
    POST /answer   {"inputs": [...]} gives {"logits": [...], "answers": [...]};
                   application/octet-stream, the numbers of inputs as they lie in memory (little
                   endian), gives logits as float32 in the same way

What can't be answered gets a status from 400 on and one line. A connection has ``timeout`` seconds
for each request, however slowly it comes, and is closed then. It is for one model on one machine,
behind something that knows of users and encryption.
"""

import argparse
import contextlib
import json
import math
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from smallnets.deploy import card as cards
from smallnets.deploy import environment, runtime
from smallnets.deploy.behind import Behind

BYTES = 1 << 20  # of a request's body
SECONDS = 10.0  # for one request
CONNECTIONS = 64  # at once
RAW, JSON = "application/octet-stream", "application/json"


class RefusedError(Exception):
    """A status and the line that says why."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


class Server(ThreadingHTTPServer):
    """The server of one program; ``answer`` is x[n, ...] -> logits."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = CONNECTIONS

    def __init__(
        self,
        address: tuple[str, int],
        card: dict[str, Any],
        program: runtime.Program,
        name: str,
        *,
        behind: Behind | None = None,
        largest: int = BYTES,
        timeout: float = SECONDS,
    ):
        self.card, self.program, self.name, self.behind = card, program, name, behind
        self.largest, self.seconds = largest, timeout
        self.answered, self.busy, self.cpu = 0, 0.0, 0.0
        self.turn, self.free = threading.Lock(), threading.BoundedSemaphore(CONNECTIONS)
        self.deadlines: dict[socket.socket, float] = {}
        super().__init__(address, Handler)
        threading.Thread(target=self._close_late_ones, daemon=True).start()

    def answer(self, x: np.ndarray) -> np.ndarray:
        one = self.card["files"][self.name]["batch"] == 1
        with self.turn:
            start = time.perf_counter()
            y = runtime.answers(self.program, x, 1 if one else len(x))
            self.busy += time.perf_counter() - start
            self.answered += len(x)
        return y if self.behind is None else self.behind.improved(x, y)

    def took(self, cpu: float) -> None:
        """Count the CPU-seconds of a request that was answered."""
        with self.turn:
            self.cpu += cpu

    def health(self) -> dict[str, Any]:
        """What was answered so far and at what cost; of both models, where there is one behind."""
        said: dict[str, Any] = {"ok": True, "program": self.name, "answered": self.answered}
        said |= {"seconds_an_answer": None, "joules_an_answer": None}
        watts = self.card.get("watts_of_a_core")
        if self.answered:
            said["seconds_an_answer"] = self.busy / self.answered
            said["joules_an_answer"] = watts and watts * self.cpu / self.answered
        if self.behind is not None:
            said["behind"] = behind = self.behind.health()
            parts = said["joules_an_answer"], behind["share_sent_on"], behind["joules_an_answer"]
            known = None not in parts
            said["joules_of_both"] = parts[0] + parts[1] * parts[2] if known else None
        return said

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            self.deadlines[request] = time.monotonic() + self.seconds
            super().process_request_thread(request, client_address)
        finally:
            self.deadlines.pop(request, None)
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that has gone is no error
            super().handle_error(request, client_address)

    def _close_late_ones(self) -> None:
        while True:
            time.sleep(min(1.0, self.seconds / 4))
            for connection, deadline in list(self.deadlines.items()):
                if time.monotonic() > deadline:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """One connection; requests follow each other on it."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "smallnets", ""
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def do_GET(self) -> None:
        if self.path == "/health":
            self._reply(200, json.dumps(self.server.health()).encode())
        elif self.path == "/card":
            self._reply(200, json.dumps(self.server.card).encode())
        else:
            self._refuse(404, "there are /health, /card and, to post to, /answer")

    def do_POST(self) -> None:
        start = time.thread_time()
        try:
            reply = self._answered()
        except RefusedError as error:
            self._refuse(error.status, str(error))
            return
        except ConnectionError as error:
            self._refuse(502, f"the model behind does not answer: {error}")
            return
        self.server.took(time.thread_time() - start)
        self._reply(200, *reply)

    def _answered(self) -> tuple[bytes, str]:
        """The body of a reply and its type."""
        if self.path != "/answer":
            raise RefusedError(404, "inputs are posted to /answer")
        body = self._body()
        if self.headers.get_content_type() == RAW:
            y = self.server.answer(from_raw(body, self.server.card))
            return np.ascontiguousarray(y, "<f4").tobytes(), RAW
        y = self.server.answer(from_json(body, self.server.card))
        return json.dumps(as_json(y, self.server.card)).encode(), JSON

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise RefusedError(411, "a body needs its Content-Length, and no Transfer-Encoding")
        if len(length) > 12 or int(length) > self.server.largest:
            raise RefusedError(413, f"a body has up to {self.server.largest} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise RefusedError(400, "the body is shorter than its Content-Length")
        return body

    def _refuse(self, status: int, why: str) -> None:
        self.close_connection = True  # of its body some may be unread
        self._reply(status, json.dumps({"error": why}).encode())

    def _reply(self, status: int, body: bytes, kind: str = JSON) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.server.deadlines[self.connection] = time.monotonic() + self.server.seconds

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._refuse(code, message or "the request is not HTTP")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def from_json(body: bytes, card: dict[str, Any]) -> np.ndarray:
    """x[n, ...] of ``{"inputs": [...]}``; raises RefusedError for anything else."""
    shape, dtype = card["input"]["shape"], card["input"]["dtype"]
    wanted = f'{{"inputs": [...]}} of {dtype} [n, {", ".join(map(str, shape))}]'
    try:
        x = np.asarray(json.loads(body)["inputs"])
        right = x.dtype.kind in "if" and list(x.shape[1:]) == shape and len(x) > 0
        with np.errstate(over="ignore", invalid="ignore"):
            converted = x.astype(dtype) if right else x
        right = right and bool(np.isfinite(converted).all()) and _same(x, converted)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        right, converted = False, np.zeros(0)
    if not right:
        raise RefusedError(400, f"the body must be {wanted}, finite and within its type")
    return converted


def _same(x: np.ndarray, converted: np.ndarray) -> bool:
    return converted.dtype.kind == "f" or bool((x == converted).all())


def from_raw(body: bytes, card: dict[str, Any]) -> np.ndarray:
    """x[n, ...] of its bytes; raises RefusedError for other than whole, finite examples."""
    shape, dtype = card["input"]["shape"], np.dtype(card["input"]["dtype"]).newbyteorder("<")
    size = math.prod(shape) * dtype.itemsize
    if not body or len(body) % size:
        raise RefusedError(400, f"a raw body has {size} bytes an example, {dtype.name} {shape}")
    x = np.frombuffer(body, dtype).reshape(-1, *shape).astype(dtype.newbyteorder("="))
    if not np.isfinite(x).all():
        raise RefusedError(400, "inputs must be finite")
    return x


def as_json(y: np.ndarray, card: dict[str, Any]) -> dict[str, Any]:
    """Logits, and of classes the largest one's name or number."""
    said: dict[str, Any] = {"logits": y.tolist()}
    if card["kind"] == "classes":
        names = card["classes"]
        best = y.argmax(axis=-1)
        named = names and best.ndim == 1
        said["answers"] = [names[index] for index in best] if named else best.tolist()
    return said


def main(arguments: list[str]) -> None:
    """The verb ``serve``; it starts itself again in the environment of the program's runtime."""
    parser = argparse.ArgumentParser(
        "smallnets serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artefact", help="a folder that smallnets export wrote")
    parser.add_argument("--program", help="a file of it; else the first of onnx, litert, stablehlo")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free one")
    parser.add_argument("--largest", type=int, default=BYTES, help="bytes of a body")
    parser.add_argument("--timeout", type=float, default=SECONDS, help="seconds for a request")
    parser.add_argument("--behind", metavar="URL", help="what unsure answers are asked of instead")
    parser.add_argument("--threshold", type=float, help="surer answers stay; else the card's")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    said = parser.parse_args(arguments)
    folder = Path(said.artefact)
    card = cards.read(folder)
    name = _program(card, said.program, folder)
    _check(said)
    behind = None
    if said.behind:
        behind = Behind(said.behind, card, said.threshold, said.timeout)
    if not said.here:
        route = runtime.SUFFIXES[Path(name).suffix]
        words = [folder.absolute(), "--program", name, *_rest(arguments, said.artefact)]
        sys.exit(environment.attached(route, "serve", [*words, "--here"]))
    try:
        server = Server(
            (said.host, said.port),
            card,
            runtime.load(folder / name),
            name,
            behind=behind,
            largest=said.largest,
            timeout=said.timeout,
        )
    except OSError as error:
        raise ValueError(
            f"{said.host}:{said.port} can't be listened at ({error.strerror}): name another --port "
            "or --host"
        ) from None
    host, port = server.server_address[:2]
    print(f"{name} at http://{host}:{port}, until Ctrl-C", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


def _check(said: argparse.Namespace) -> None:
    """Raise ValueError for a number that is out of its range."""
    if not 0 <= said.port < 1 << 16:
        raise ValueError(f"--port lies in 0 to 65535, but is {said.port}: 0 is any free one")
    if said.largest < 1:
        raise ValueError(f"--largest is at least 1 byte, but is {said.largest}: {BYTES} is usual")
    if not 0 < said.timeout < math.inf:
        raise ValueError(f"--timeout is above 0 seconds, but is {said.timeout}: 10 is usual")
    if said.threshold is not None and not 0 <= said.threshold <= 1:
        raise ValueError(
            f"--threshold lies in [0, 1], but is {said.threshold}: leave it to the card"
        )
    if said.threshold is not None and not said.behind:
        raise ValueError("--threshold says what is asked of a model behind: add --behind URL")


def _program(card: dict[str, Any], asked: str | None, folder: Path) -> str:
    there = [name for name in card["files"] if "batch" in card["files"][name]]
    if asked is not None:
        if asked not in there:
            raise ValueError(f"{folder} has no program {asked}: it has {', '.join(there)}")
        return asked
    for suffix in (".onnx", ".tflite", ".stablehlo"):
        if f"model{suffix}" in there:
            return f"model{suffix}"
    raise ValueError(f"{folder} has no program: export one with --to onnx")


def _rest(arguments: list[str], artefact: str) -> list[str]:
    """The words besides the folder and the program."""
    rest, skip = [], False
    for word in arguments:
        if skip or word == artefact or word.startswith("--program"):
            skip = word == "--program"
            continue
        rest.append(word)
    return rest


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        print(f"smallnets: {error}", file=sys.stderr)
        sys.exit(2)
