"""A trained model as one file that describes itself: ``model.safetensors``.

The file's header holds a description, notes on the run and the model as JSON of public class names,
plain attributes and notes on parameters, and a SHA-256 over the description and all arrays, which
lie behind it. The model's JSON is packed (zlib, then base85), since it would be a fifth of a file
of 16 kB. So a model is loaded in a process that knows neither its config nor the passes that made
it. No code is in the
file: a class is imported only from smallnets, or from a package that the caller allows, and only if
it is a module or a variable of Flax.
"""

import base64
import functools
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from smallnets.allowed import locate
from smallnets.files import replacing
from smallnets.tasks.data import Data, Split
from smallnets.tasks.metrics import Kind, Metric, scores
from smallnets.tasks.preparation import Preparation, Targets
from smallnets.traced import public_name
from smallnets.training.fit import Arrays, evaluate

NAME = "model.safetensors"
FORMAT = "2"  # of the description: in files of 1 the model's JSON stands as it is
FORMATS = ("1", "2")  # that are read
FLAX = {name: getattr(nnx, name) for name in ("Param", "Variable", "BatchStat", "List")}


class Model(nnx.Module):
    """A network, and what turns raw inputs into its own: ``model(x) -> logits``.

    ``x[n, ...]`` are raw inputs as the task's source has them (pixels, numbers, tokens), or for a
    model of text a string, whose logits are ``[T, classes]``. ``inputs`` prepares them
    (:mod:`smallnets.tasks.preparation`); ``classes`` are the names of the answers, empty where the
    task gives none. Where the task asks for numbers, the answers are in the units of ``targets``.
    It is a pytree: ``jax.jit`` and ``jax.vmap`` take it.
    """

    kind: Kind = "classes"
    targets: Targets | None = None

    def __init__(
        self,
        network: Any,
        inputs: Preparation,
        *,
        classes: tuple[str, ...] = (),
        kind: Kind = "classes",
        targets: Targets | None = None,
    ):
        self.network = network
        self.inputs = inputs
        self.classes, self.kind, self.targets = classes, kind, targets

    def __call__(self, x: Any) -> jax.Array:
        if isinstance(x, str):
            return self.network(self.inputs(self.inputs.tokens(x)[None]))[0]
        answers = self.network(self.inputs(jnp.asarray(x)))
        return answers if self.targets is None else self.targets(answers)

    def evaluate(
        self, split: Split, *, metrics: tuple[str | Metric, ...] = (), batch_size: int = 64
    ) -> dict[str, float]:
        """``loss`` and the other scores over a split of a task's data, as a row has them.

        ``metrics`` are scored besides the usual ones. Of text there is ``bits_per_byte`` too.
        """
        arrays = Arrays(split.inputs, split.labels)
        found = _evaluate(self, arrays, batch_size, metrics)
        values = {name: float(score) for name, score in found.items()}
        if math.isnan(values["loss"]):
            return dict.fromkeys(values, math.nan)
        if split.bytes:
            values["bits_per_byte"] = split.bits_per_byte(values["loss"])
        return values


@functools.partial(jax.jit, static_argnums=(2, 3))
def _evaluate(
    model: Model, split: Arrays, batch_size: int, metrics: tuple[str | Metric, ...]
) -> dict[str, jax.Array]:
    def answers(inputs: jax.Array) -> jax.Array:
        return model.network(model.inputs(inputs) if inputs.dtype == jnp.uint8 else inputs)

    return evaluate(answers, split, batch_size, scores(model.kind, metrics, model.targets))


def save(model: nnx.Module, path: Path, *, notes: Mapping[str, str] | None = None) -> Path:
    """Write ``model`` as one file, in one step; return the path.

    ``notes`` are kept in the file, such as which run it is of. Raises ValueError for a model that
    no description can hold: what is neither a module, a variable nor a plain value, and a class
    that has no name to import it by.
    """
    found: dict[str, Any] = {}
    description = _description(model, notes or {}, found)
    arrays = {name: np.asarray(array) for name, array in found.items()}
    digest = _digest(FORMAT, description, arrays)
    header = {"format": FORMAT, "description": description, "sha256": digest}
    with replacing(path) as draft:
        draft.write_bytes(save_safetensors(arrays, metadata=header))
    return path


def _description(model: nnx.Module, notes: Mapping[str, str], arrays: dict[str, Any]) -> str:
    """The notes, and the model's description packed; its arrays are put into ``arrays``."""
    text = json.dumps(described(model, "", arrays), sort_keys=True, separators=(",", ":"))
    packed = base64.b85encode(zlib.compress(text.encode(), 9)).decode()
    return json.dumps({"notes": dict(notes), "model": packed})


def kept(network: Any, data: Data) -> Model:
    """The model that a run on ``data`` keeps, of a network that may be abstract."""
    return Model(
        network, data.preparation, classes=data.names, kind=data.kind, targets=data.targets
    )


def notes_of(key: str, saved: str, family: str, task: str) -> dict[str, str]:
    """What a model's file says of its run."""
    return {"key": key, "saved": saved, "family": family, "task": task}


def file_bytes(model: nnx.Module, notes: Mapping[str, str]) -> int:
    """The bytes of the file that :func:`save` would write; the arrays may be abstract.

    Eight bytes of length, the header's JSON filled up to a multiple of eight, and the arrays.
    """
    found: dict[str, Any] = {}
    description = _description(model, notes, found)
    arrays = {name: (np.dtype(array.dtype), tuple(array.shape)) for name, array in found.items()}
    header: dict[str, Any] = {
        "__metadata__": {"format": FORMAT, "description": description, "sha256": "0" * 64}
    }
    end = 0
    for name, (dtype, shape) in sorted(arrays.items(), key=lambda item: _order(*item)):
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": f"{CODES[dtype.kind]}{8 * dtype.itemsize}" if dtype.kind != "b" else "BOOL",
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + -(-len(text) // 8) * 8 + end


CODES = {"f": "F", "i": "I", "u": "U"}  # of NumPy's kinds in the names of safetensors
ORDER = ["b", "u1", "i1", "i2", "u2", "f2", "i4", "u4", "f4", "f8", "i8", "u8"]  # its own


def _order(name: str, of: tuple[np.dtype, Any]) -> tuple[int, str]:
    """Where safetensors puts an array: the widest first, then by name."""
    kind = of[0].str.lstrip("<>|=").replace("b1", "b")
    return -ORDER.index(kind), name


def load(folder: str | Path, *, allow: tuple[str, ...] = ()) -> Any:
    """The model that a run kept: ``folder`` is the run's, or the file itself.

    Classes are imported from smallnets and from the packages named in ``allow``, nothing else
    (:mod:`smallnets.allowed`).
    Raises ValueError, one line that names the file, where there is none, where it is damaged by as
    much as a bit, and where it names a class that is not allowed.
    """
    path = Path(folder)
    path = path / NAME if path.is_dir() else path
    description, arrays = _read(path)
    try:
        on_device = {name: jnp.asarray(array) for name, array in arrays.items()}
        return built(description["model"], on_device, allow)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def notes(path: Path) -> dict[str, str]:
    """The notes of a model's file; raises ValueError as :func:`load`."""
    return _read(path)[0]["notes"]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise ValueError(
            f"{path}: no model is kept there: name the folder of a run that was trained with "
            "save=last or save=best"
        )
    content = path.read_bytes()
    said: dict[str, Any] = {}
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])["__metadata__"]
        arrays = load_safetensors(content)
        digest = _digest(header["format"], header["description"], arrays)
        sound = digest == header["sha256"]
        if sound and header["format"] in FORMATS:
            said = json.loads(header["description"])
            if header["format"] != "1":
                said["model"] = json.loads(zlib.decompress(base64.b85decode(said["model"])))
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        MemoryError,
        zlib.error,
    ):
        sound = False
    if not sound:
        raise ValueError(
            f"{path}: the file is damaged, its contents and its SHA-256 differ: take a copy, or "
            "train the run again"
        )
    if not said:
        raise ValueError(
            f"{path}: the file has format {header['format']}, this smallnets reads "
            f"{' and '.join(FORMATS)}: load it with the version that wrote it"
        )
    return said, arrays


def _digest(written: str, description: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(f"{written}\n{description}".encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def described(value: Any, path: str, arrays: dict[str, Any]) -> Any:
    """``value`` as JSON; the arrays in it are put into ``arrays`` under their dotted paths.

    Raises ValueError as :func:`save`.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return {"tuple": [described(each, f"{path}.{i}", arrays) for i, each in enumerate(value)]}
    if isinstance(value, nnx.Variable):
        arrays[path] = value.get_raw_value()
        return {"class": _name(type(value)), "array": path, "notes": _metadata(value, path)}
    if isinstance(value, nnx.List):
        parts = [described(each, f"{path}.{i}", arrays) for i, each in enumerate(value)]
        return {"class": _name(type(value)), "items": parts}
    if isinstance(value, nnx.Module):
        attributes = {
            name: described(each, f"{path}.{name}".lstrip("."), arrays)
            for name, each in _attributes(value)
        }
        return {"class": _name(type(value)), "attributes": attributes}
    raise ValueError(
        f"a kept model holds modules, variables and plain values, but {path or 'it'} is a "
        f"{type(value).__name__}: keep it as an nnx.Variable, or drop it after __init__"
    )


def _attributes(module: nnx.Module) -> Iterator[tuple[str, Any]]:
    return ((name, each) for name, each in vars(module).items() if not name.startswith("_pytree__"))


def _metadata(variable: nnx.Variable, path: str) -> dict[str, Any]:
    """What is noted on a variable beyond what Flax notes on every one."""
    usual = type(variable)(np.zeros(())).get_metadata()
    found = {k: v for k, v in variable.get_metadata().items() if k not in usual or usual[k] != v}
    for name, value in found.items():
        if not isinstance(value, (bool, int, float, str)):
            raise ValueError(
                f"notes on a parameter are plain values, but {name} of {path} is a "
                f"{type(value).__name__}: note a number or a string"
            )
    return found


def _name(kind: type) -> str:
    if FLAX.get(kind.__name__) is kind:
        return f"flax.nnx.{kind.__name__}"
    name = public_name(kind)
    if "<locals>" in name or name.startswith("__main__."):
        raise ValueError(
            f"a kept model's classes must be importable, but {name} is not: define it in a module"
        )
    return name


def built(description: Any, arrays: Mapping[str, Any], allow: tuple[str, ...] = ()) -> Any:
    """The inverse of :func:`described`; raises ValueError for a class that is not allowed."""
    if not isinstance(description, dict):
        return description
    if "tuple" in description:
        return tuple(built(each, arrays, allow) for each in description["tuple"])
    kind = _class(description["class"], allow)
    if "array" in description:
        return kind(arrays[description["array"]], **description["notes"])
    if "items" in description:
        return kind([built(each, arrays, allow) for each in description["items"]])
    module = _empty(kind)
    for name, each in description["attributes"].items():
        setattr(module, name, built(each, arrays, allow))
    return module


def _class(name: str, allow: tuple[str, ...]) -> Any:
    """The class of a name; nothing is imported that is not allowed."""
    module, _, short = name.rpartition(".")
    if module == "flax.nnx" and short in FLAX:
        return FLAX[short]
    kind = locate(name, allow, said_by="the file", fix="load(..., allow=('{}',))")
    if not (isinstance(kind, type) and issubclass(kind, (nnx.Module, nnx.Variable))):
        raise ValueError(f"a model is made of Flax modules and variables, but {name} is neither")
    return kind


def _empty(kind: type) -> Any:
    """A module without its attributes: what ``__init__`` would make of them is in the file."""
    module = _shell(kind)()
    object.__setattr__(module, "__class__", kind)
    return module


@functools.cache
def _shell(kind: type) -> type:
    return type(kind.__name__, (kind,), {"__init__": lambda self: None})
