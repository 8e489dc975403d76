"""A small model in front, another one behind an address: only unsure answers are asked of it.

An answer is sure whose largest share of the softmax reaches the threshold. The threshold stands on
the small model's card, chosen on the validation split. Where the model behind does not answer, the
request fails and says so: an answer never silently comes from the weaker model.
Source: Teerapittayanon, McDanel & Kung 2017, arXiv:1709.01921 (confidence as the rule to send on).
"""

import contextlib
import http.client
import json
import math
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np


class Behind:
    """The model at a URL, asked by raw numbers.

    Raises ValueError for a URL that is not http://, for answers that are not of classes, and where
    neither the card nor the caller gives a threshold.
    """

    def __init__(self, url: str, card: dict[str, Any], threshold: float | None, timeout: float):
        parts, port = urlsplit(url), None
        with contextlib.suppress(ValueError):  # of a port that is none
            port = parts.port or 80
        alone = parts.path in ("", "/") and not parts.query
        if parts.scheme != "http" or not parts.hostname or port is None or not alone:
            raise ValueError(f"--behind needs an address as http://HOST:PORT, but is {url}")
        threshold = card.get("threshold") if threshold is None else threshold
        if threshold is None or card["kind"] != "classes":
            raise ValueError(
                "a threshold is of classes and stands on the card of a task with a validation "
                "split, but this one has none: give --threshold, or leave --behind out"
            )
        self.host, self.port, self.timeout = parts.hostname, port, timeout
        self.threshold, self.classes = threshold, card["output"]["shape"][-1]
        self.asked = self.seen = 0
        self.seconds = 0.0
        self.turn = threading.Lock()

    def improved(self, x: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """``logits`` with those of unsure examples replaced; raises ConnectionError."""
        unsure = confidence(logits) < self.threshold
        found = logits
        start = time.perf_counter()
        if unsure.any():
            found = logits.copy()
            found[unsure] = self._ask(x[unsure])
        with self.turn:
            self.seen += len(x)
            self.asked += int(unsure.sum())
            self.seconds += time.perf_counter() - start if unsure.any() else 0.0
        return found

    def _ask(self, x: np.ndarray) -> np.ndarray:
        body = x.astype(x.dtype.newbyteorder("<")).tobytes()
        status, said = self._request("POST", "/answer", body, self.timeout)
        if status != 200 or len(said) != 4 * len(x) * self.classes:
            raise ConnectionError(f"status {status}, {len(said)} bytes")
        return np.frombuffer(said, "<f4").reshape(len(x), self.classes)

    def _request(
        self, method: str, path: str, body: bytes | None, timeout: float
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            kind = {"Content-Type": "application/octet-stream"}
            connection.request(method, path, body, kind)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        """The share sent on, the seconds that one of those took, and the joules that it took there.

        The joules are asked of the server behind, and None where it does not say them.
        """
        joules = None
        with contextlib.suppress(ConnectionError, ValueError, AttributeError):
            _, said = self._request("GET", "/health", None, min(1.0, self.timeout))
            joules = json.loads(said).get("joules_an_answer")
        return {
            "address": f"http://{self.host}:{self.port}",
            "threshold": self.threshold,
            "share_sent_on": self.asked / self.seen if self.seen else None,
            "seconds_an_answer": self.seconds / self.asked if self.asked else None,
            "joules_an_answer": joules,
        }


def confidence(logits: np.ndarray) -> np.ndarray:
    """The largest share of the softmax: logits[n, classes] -> [n]."""
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return 1 / shares.sum(axis=-1)


def threshold(logits: np.ndarray, share: float) -> float:
    """The confidence below which ``share`` of the answers lie.

    Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1 or math.isnan(share):
        raise ValueError(f"a share lies in [0, 1], but is {share}: give for example 0.2")
    return float(np.quantile(confidence(logits), share))
