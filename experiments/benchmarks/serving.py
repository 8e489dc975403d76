"""What does HTTP cost beside the model that it serves?

    python experiments/benchmarks/serving.py ARTEFACT [SECONDS]        about 20 seconds

Starts ``smallnets serve`` on this machine and asks it for one answer after another, by raw numbers
and by JSON, over connections that stay open: one, then four at once. Prints the median and the 99th
percentile of an answer's time and the answers a second, beside the program's own time, which the
server measures around the call meanwhile.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

folder, seconds = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 4.0
x = np.load(folder / "sample_inputs.npy")[:1]
BODIES = {
    "raw": (x.tobytes(), "application/octet-stream"),
    "JSON": (json.dumps({"inputs": x.tolist()}).encode(), "application/json"),
}


def ask(port: int, body: bytes, kind: str, until: float, times: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while time.perf_counter() < until:
        start = time.perf_counter()
        connection.request("POST", "/answer", body, {"Content-Type": kind})
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 200
        times.append(time.perf_counter() - start)


def health(port: int) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/health")
    return json.loads(connection.getresponse().read())


command = [sys.executable, "-m", "smallnets", "serve", str(folder), "--port", "0"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
try:
    assert server.stdout is not None
    said = server.stdout.readline()
    port = int(said.split(",")[0].rsplit(":", 1)[1])
    for name, (body, kind) in BODIES.items():
        for clients in (1, 4):
            times: list[float] = []
            until = time.perf_counter() + seconds
            work = [
                threading.Thread(target=ask, args=(port, body, kind, until, times))
                for _ in range(clients)
            ]
            for each in work:
                each.start()
            for each in work:
                each.join()
            p50, p99 = np.quantile(times, (0.5, 0.99)) * 1e6
            print(
                f"{name}, {clients} at once: p50 {p50:.0f} µs, p99 {p99:.0f} µs, "
                f"{len(times) / seconds:,.0f} answers a second"
            )
    print(f"the program alone, {said.split()[0]}: {health(port)['seconds_an_answer'] * 1e6:.0f} µs")
finally:
    server.terminate()
    server.wait()
