"""A small model in front, another one behind an address: only unsure answers are asked of it.

An answer is sure whose largest share of the softmax reaches the threshold. The threshold stands on
the small model's card, chosen on the validation split. Where the model behind does not answer, the
request fails and says so: an answer never silently comes from the weaker model.
Source: Teerapittayanon, McDanel & Kung 2017, arXiv:1709.01921 (confidence as the rule to send on).
"""

import http.client
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
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"--behind needs an address as http://HOST:PORT, but is {url}")
        threshold = card.get("threshold") if threshold is None else threshold
        if threshold is None or card["kind"] != "classes":
            raise ValueError(
                "a threshold is of classes and stands on the card of a task with a validation "
                "split, but this one has none: give --threshold, or leave --behind out"
            )
        self.host, self.port, self.timeout = parts.hostname, parts.port or 80, timeout
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
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        body = x.astype(x.dtype.newbyteorder("<")).tobytes()
        try:
            connection.request(
                "POST", "/answer", body, {"Content-Type": "application/octet-stream"}
            )
            reply = connection.getresponse()
            said = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if reply.status != 200 or len(said) != 4 * len(x) * self.classes:
            raise ConnectionError(f"status {reply.status}, {len(said)} bytes")
        return np.frombuffer(said, "<f4").reshape(len(x), self.classes)

    def health(self) -> dict[str, Any]:
        """The share sent on, and the seconds that one of those took."""
        return {
            "address": f"http://{self.host}:{self.port}",
            "threshold": self.threshold,
            "share_sent_on": self.asked / self.seen if self.seen else None,
            "seconds_an_answer": self.seconds / self.asked if self.asked else None,
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
