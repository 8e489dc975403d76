"""The report as a reader meets it: in a browser, without a network."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), ""
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1240,900",
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs chromium on PATH to open the report")

LISTEN = """<script>
const complaints = [];
for (const kind of ["error", "unhandledrejection"])
  addEventListener(kind, event => complaints.push(String(event.message || event.reason)));
for (const kind of ["error", "warn"]) {
  const say = console[kind];
  console[kind] = (...words) => { complaints.push(words.join(" ")); say(...words); };
}
</script>"""

# Pointer events on the page, not calls of Plotly's functions, so that what a hand does is seen.
PROBE = """<script>
const wait = ms => new Promise(done => setTimeout(done, ms));
async function probe() {
  for (let i = 0; i < 200 && !document.body.dataset.drawn; i++) await wait(50);
  const plot = document.getElementById("curves");
  const drag = plot.querySelector(".nsewdrag");
  const box = drag.getBoundingClientRect();
  const runs = plot.data.find(trace => trace.mode === "markers" && trace.customdata);
  const x = box.left + plot._fullLayout.xaxis.d2p(runs.x[0]);
  const y = box.top + plot._fullLayout.yaxis.d2p(runs.y[0]);
  const point = {bubbles: true, clientX: x, clientY: y, view: window};
  drag.dispatchEvent(new MouseEvent("mouseover", point));
  drag.dispatchEvent(new MouseEvent("mousemove", point));
  await wait(300);
  const hover = [...plot.querySelectorAll(".hoverlayer .hovertext")].map(e => e.textContent);
  const shown = () => plot._fullData.filter(t => t.visible === true).map(t => t.legendgroup);
  const before = shown();
  const points = plot.querySelectorAll(".scatterlayer .point").length;
  const toggle = plot.querySelector(".legendtoggle");
  for (const kind of ["mousedown", "mouseup"])
    toggle.dispatchEvent(new MouseEvent(kind, {bubbles: true, view: window}));
  await wait(800);
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify({
    drawn: document.querySelectorAll(".plot .main-svg").length,
    plots: document.querySelectorAll(".plot").length,
    points, hover, before, after: shown(), complaints,
  });
  document.body.append(result);
}
probe();
</script>"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    def visit(page: Path) -> str:
        profile = tmp_path_factory.mktemp("profile")
        done = subprocess.run(
            [
                CHROMIUM,
                *FLAGS,
                f"--user-data-dir={profile}",
                "--virtual-time-budget=20000",
                "--dump-dom",
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout

    return visit


def test_it_draws_hovers_and_switches_a_family_off(reported, tmp_path, chromium):
    html = (reported / "report.html").read_text()
    html = html.replace("<head>", f"<head>{LISTEN}", 1).replace("</body>", f"{PROBE}</body>", 1)
    page = tmp_path / "probed.html"
    page.write_text(html)
    found = re.search(r'<pre id="result">(.*?)</pre>', chromium(page), re.DOTALL)
    assert found, "the page never finished drawing"
    result = json.loads(unescape(found[1]))
    assert result["complaints"] == []
    assert result["plots"] == 5
    assert result["drawn"] >= 5
    assert result["points"] == 2 * 2 * (6 * 3 + 6)  # runs and means, two families, two panels
    (hover,) = result["hover"]
    assert "seed: " in hover
    assert "test error: 0." in hover
    assert "parameters: 1000" in hover
    assert set(result["before"]) == {"dense", "monarch"}
    assert set(result["after"]) == {"monarch"}


def test_a_page_that_cannot_draw_says_so(reported, tmp_path, chromium):
    html = (reported / "report.html").read_text()
    page = tmp_path / "broken.html"
    page.write_text(re.sub(r'(id="figures">).{40}', r"\1", html))
    assert "can't draw the figure" in chromium(page)
