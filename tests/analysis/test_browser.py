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

# Pointer events on the page, not calls of Vega's functions, so that what a hand does is seen.
PROBE = """<script>
const wait = ms => new Promise(done => setTimeout(done, ms));
const at = element => {
  const box = element.getBoundingClientRect();
  return {bubbles: true, view: window, clientX: box.left + box.width / 2,
          clientY: box.top + box.height / 2};
};
async function probe() {
  for (let i = 0; i < 200 && !document.body.dataset.drawn; i++) await wait(50);
  const plot = document.querySelector("#curves > div");
  const dots = [...plot.querySelectorAll(".mark-symbol.role-mark path")]
    .filter(dot => (dot.getAttribute("aria-label") || "").includes("seed"));
  for (const kind of ["pointerover", "mouseover", "pointermove", "mousemove"])
    dots[0].dispatchEvent(new MouseEvent(kind, at(dots[0])));
  await wait(300);
  const hover = document.querySelector("#vg-tooltip-element")?.textContent;
  const full = () => [...plot.querySelectorAll(".mark-line.role-mark path")]
    .filter(line => (line.getAttribute("stroke-opacity") ?? 1) > 0.5
      && (line.getAttribute("opacity") ?? 1) > 0.5).length;
  const before = full();
  const entry = plot.querySelector(".role-legend-symbol path, .role-legend-label text");
  for (const kind of ["pointerdown", "mousedown", "pointerup", "mouseup", "click"])
    entry.dispatchEvent(new MouseEvent(kind, at(entry)));
  await wait(500);
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify({
    panels: +document.body.dataset.drawn,
    wide: document.documentElement.scrollWidth - innerWidth,
    dots: dots.length, hover, before, after: full(), complaints,
  });
  document.body.append(result);
}
probe().catch(error => { document.body.append(String(error.stack)); });
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


@pytest.mark.slow
def test_it_draws_hovers_and_switches_a_family_off(reported, tmp_path, chromium):
    html = (reported / "report.html").read_text()
    html = html.replace("<head>", f"<head>{LISTEN}", 1).replace("</body>", f"{PROBE}</body>", 1)
    page = tmp_path / "probed.html"
    page.write_text(html)
    found = re.search(r'<pre id="result">(.*?)</pre>', chromium(page), re.DOTALL)
    assert found, "the page never finished drawing"
    result = json.loads(unescape(found[1]))
    assert result["complaints"] == []
    assert result["panels"] == 2 + 1 + 1 + 2 + 2
    assert result["wide"] <= 0
    assert result["dots"] == 2 * 6 * 3
    assert "seed" in result["hover"]
    assert "test error" in result["hover"]
    assert result["before"] == 2 * 3  # below, within and above the data
    assert result["after"] == 3


@pytest.mark.slow
def test_a_page_that_cannot_draw_says_so(reported, tmp_path, chromium):
    html = (reported / "report.html").read_text()
    page = tmp_path / "broken.html"
    page.write_text(re.sub(r'(id="figures">).{40}', r"\1", html))
    assert "can't draw the figure" in chromium(page)
