"""The page of an artefact, in a browser: the file answers there as it does here."""

import functools
import http.server
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from command import smallnets
from test_artefact import python_of, trained

from smallnets.deploy import web

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), ""
)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="needs chromium on PATH to open the page"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
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


@pytest.mark.parametrize("kind", ["dense", "transformer"])
def test_real_inputs_are_answered_as_by_the_model(kind: str, cache: Path, tmp_path: Path):
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
    assert "answered in" in page
    (out / "model.onnx").write_bytes(b"nothing")  # so that the test can fail
    assert "data-error" in opened(out, tmp_path / "profile")


def test_a_page_without_its_runtime_names_the_command_that_fetches_it(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(web.environment, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"onnxruntime-web, which is not here: build it with make"):
        web.runtime()
