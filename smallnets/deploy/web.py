"""An artefact as a page: ``index.html`` runs its ONNX file in a browser, by onnxruntime-web.

A person draws a signal or a picture, or types a text, and sees the answer and its time; nothing is
sent anywhere. The runtime is 14 MB of WebAssembly, whatever the size of the model. A browser opens
it over HTTP alone: python -m http.server -d FOLDER.
"""

import shutil
from pathlib import Path

from smallnets.deploy import environment

MODULES = Path("smallnets/deploy/environments/browser") / "node_modules" / "onnxruntime-web"
# The plain entry pulls builds of twice the size, for graphics cards.
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def runtime() -> Path:
    """The folder of onnxruntime-web; raises ValueError where it is not there."""
    for folder in (Path.cwd(), environment.ROOT):
        if all((folder / MODULES / "dist" / name).exists() for name in RUNTIME):
            return folder / MODULES / "dist"
    raise ValueError(
        f"the page needs {MODULES}, which is not here: build it with make deploy in "
        f"{environment.ROOT}, or leave web out of --to"
    )


def write(folder: Path) -> None:
    """Write the page and its runtime beside the programs of an artefact."""
    source = runtime()
    for name in RUNTIME:
        shutil.copyfile(source / name, folder / name)
    shutil.copyfile(Path(__file__).with_name("page.html"), folder / "index.html")
