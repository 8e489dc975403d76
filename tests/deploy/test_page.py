"""The page of an artefact, in a browser: the file answers there as it does here.

A hand is a script behind the page's own: it types a text or draws a point, as a person would.
"""

import functools
import http.server
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from command import smallnets
from test_artefact import python_of, trained

from smallnets import models
from smallnets.deploy import web

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), ""
)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="needs chromium on PATH to open the page"),
]


TYPED = "It is a tr"
HAND = """<script type="module">
const wait = setInterval(() => {
  if (!document.body.dataset.difference) return;
  clearInterval(wait);
  const seen = new MutationObserver(() => { document.body.dataset.byhand = "shown"; });
  seen.observe(document.getElementById("answer"), {childList: true});
  const area = document.querySelector("textarea"), canvas = document.querySelector("canvas");
  if (area) {
    area.value = "%s";
    area.dispatchEvent(new Event("input"));
  } else {  // the eleventh of forty numbers, a quarter from the top: 2
    const box = canvas.getBoundingClientRect();
    const place = {clientX: box.left + box.width * 10.5 / 40, clientY: box.top + box.height / 4};
    canvas.dispatchEvent(new PointerEvent("pointerdown", {buttons: 1, ...place}));
  }
}, 50);
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path != "/":
            super().do_GET()
            return
        page = (Path(self.directory) / "index.html").read_text() + HAND % TYPED
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *args: object) -> None:
        pass


def opened(folder: Path, profile: Path) -> str:
    """What stands in the page of a folder once its scripts have run."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    words = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=30000"]
    said = subprocess.run(
        [*words, "--dump-dom", address], capture_output=True, text=True, timeout=300, check=True
    )
    server.shutdown()
    server.server_close()
    return said.stdout


def by_hand(kind: str, out: Path) -> np.ndarray:
    """What the model answers to what the hand gives: logits [classes]."""
    model, samples = models.load(out), np.load(out / "sample_inputs.npy")
    if kind == "transformer":
        x = np.zeros((1, samples.shape[1]), samples.dtype)
        x[0, : len(TYPED)] = [*TYPED.encode()]
        return np.asarray(model(x))[0, len(TYPED) - 1]
    x = samples[:1].copy()
    x[0, 10] = 2
    return np.asarray(model(x))[0]


@pytest.mark.parametrize("kind", ["dense", "transformer"])
def test_the_page_answers_as_the_model_does(kind: str, cache: Path, tmp_path: Path):
    python_of("onnx")
    try:
        web.runtime()
    except ValueError as missing:
        pytest.skip(str(missing))
    run, out = trained(kind, cache, tmp_path / "runs"), tmp_path / "out"
    smallnets("export", run, "--to", "onnx,web", "--out", out)
    page = opened(out, tmp_path / "profile")
    found = re.search(r'data-difference="([^"]+)"', page)
    assert found, re.search(r'data-error="([^"]+)"', page)
    assert float(found[1]) <= 5e-5
    assert re.search(r"answered in [\d.]+ ms", page)
    assert 'data-byhand="shown"' in page
    shown = [float(share) for share in re.findall(r"<td>([\d.]+) %</td>", page)]
    logits = by_hand(kind, out)
    shares = np.sort(np.exp(logits - logits.max()))[::-1]
    np.testing.assert_allclose(shown, 100 * (shares / shares.sum())[: len(shown)], atol=0.06)
    assert len(shown) == 10
    (out / "model.onnx").write_bytes(b"nothing")  # so that the test can fail
    assert "data-error" in opened(out, tmp_path / "profile")


def test_a_page_without_its_runtime_names_the_command_that_fetches_it(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(web.environment, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"onnxruntime-web, which is not here: build it with make"):
        web.runtime()
