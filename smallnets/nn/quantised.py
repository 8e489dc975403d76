"""Weight arrays in a few bits: codes and scales in one packed array, decoded where used."""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx

Code = Literal["int8", "int4", "ternary"]


class _Kind(NamedTuple):
    lowest: int  # of the whole numbers lowest .. highest
    highest: int
    packed: int  # numbers in a byte


KINDS: dict[str, _Kind] = {
    "int8": _Kind(-127, 127, 1),
    "int4": _Kind(-7, 8, 2),
    "ternary": _Kind(-1, 1, 5),
}
SHRUNK = 0.9  # of int4's scale: finer steps for most may be worth more than the largest weight
SCALE_BYTES = 2  # of a float16


class Quantised(nnx.Variable):
    """A weight array W kept as whole numbers q and scales s, W = s q; ``variable[...]`` is W.

    It stands in the place of an ``nnx.Param``, so that no layer knows of it: a layer asks for
    ``kernel[...]``, and what is stacked is decoded in the body of the loop that calls the layer,
    one block at a time. It is counted as the parameters that it stands for, at the bytes that it
    takes (:mod:`smallnets.measure`); no optimiser touches it.

    The numbers of one scale lie along the axis that a product sums over, ``group`` of them, or the
    whole axis where that is 0. Its raw value is one array of bytes, [..., bytes, columns]: along
    the axis of sums the codes, 1, 2 or 5 in a byte, then the scales as float16. Notes: ``code``,
    ``length`` of the axis of sums, ``group``, ``swapped`` where that axis is W's last and not the
    one before, and those of the parameter. Five ternary digits are one byte, 1.6 bits each.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """That of W."""
        *lead, _, columns = self.get_raw_value().shape
        rows = self.get_metadata("length")
        return (*lead, columns, rows) if self.get_metadata("swapped") else (*lead, rows, columns)

    @property
    def ndim(self) -> int:
        return self.get_raw_value().ndim

    def __getitem__(self, index: Any) -> jax.Array:
        notes = self.get_metadata()
        values = decode(self.get_raw_value(), notes["code"], notes["length"], notes["group"])
        values = values.swapaxes(-1, -2) if notes["swapped"] else values
        return values if index is Ellipsis else values[index]


class WholeNumbers(nnx.Module):
    """The W = s q of a :class:`Quantised` array as it is exported: q and s as arrays of their own.

    So a file that is written of the program holds q as they are, whole numbers of eight bits, and
    not a float for each: ``numbers``, int8 [..., groups, group, columns], and ``scale``, float32
    [..., groups, 1, columns]. It stands where the variable stood; ``array[...]`` is W.
    """

    def __init__(self, kept: Quantised):
        notes = kept.get_metadata()
        self.rows, self.swapped = notes["length"], notes["swapped"]
        self.shape, self.ndim = tuple(kept.shape), kept.ndim
        numbers, scale = parts(kept.get_raw_value(), notes["code"], self.rows, notes["group"])
        if notes["code"] == "int4":  # as -8 .. 7, which is what four bits are elsewhere
            numbers, scale = -numbers, -scale
        self.numbers = nnx.Variable(numbers.astype(jnp.int8))
        self.scale = nnx.Variable(scale)

    def __getitem__(self, index: Any) -> jax.Array:
        values = _ungrouped(self.numbers[...].astype(jnp.float32) * self.scale[...], self.rows)
        values = values.swapaxes(-1, -2) if self.swapped else values
        return values if index is Ellipsis else values[index]


def check_code(code: str, group: int) -> None:
    """Raise ValueError for a code that is none, and for a group below 0."""
    if code not in get_args(Code):
        raise ValueError(f"code must be one of {', '.join(get_args(Code))}, but is {code}")
    if isinstance(group, bool) or not isinstance(group, int) or group < 0:
        raise ValueError(
            f"group must be a whole number of weights that share a scale, but is {group}: 32 is "
            "usual, or 0 for a whole column"
        )


def quantised(parameter: nnx.Variable, code: Code, group: int = 0) -> Quantised:
    """A parameter of two axes or more, rounded: q = round(W / s) within the code's range.

    s is max |W| / 127 of each group for int8, and for ternary mean |W|, as Ma et al. 2024,
    arXiv:2402.17764, have it. For int4 it is |m| / 7, m / 8 or .9 m / 8, where m is the group's
    weight of the largest magnitude with its sign, so that all of -7 .. 8 are used: of the three
    that whose squared error is the smallest.
    """
    notes = parameter.get_metadata()
    values, swapped = parameter[...], sums_over_last_axis(parameter)
    values = values.swapaxes(-1, -2) if swapped else values
    length = values.shape[-2]
    group = 0 if group >= length else group
    own = {"code": code, "length": length, "group": group, "swapped": swapped}
    return Quantised(encode(values, code, group), **{**notes, **own})


def sums_over_last_axis(parameter: nnx.Variable) -> bool:
    """Whether the products of an array sum over its last axis, as those of a table's rows do."""
    notes = parameter.get_metadata()
    fan_in, fan_out = notes["fan_in"], notes["fan_out"]
    rows, columns = parameter.shape[-2:]
    return fan_in == 1 or ((rows, columns) == (fan_out, fan_in) and rows != fan_in)


@jax.custom_vjp
def _passed(values: jax.Array, rounded: jax.Array) -> jax.Array:
    del values
    return rounded


_passed.defvjp(
    lambda values, rounded: (rounded, None),
    lambda _, cotangent: (cotangent, jnp.zeros_like(cotangent)),
)


def straight_through(parameter: nnx.Param, code: Code, group: int = 0) -> nnx.Param:
    """The parameter with the values that it would have quantised, and the gradient of its own.

    Source: the straight-through estimator, Bengio et al. 2013, arXiv:1308.3432, section 3.4.
    """
    rounded = jax.lax.stop_gradient(quantised(parameter, code, group)[...])
    return nnx.Param(_passed(parameter[...], rounded), **parameter.get_metadata())


def encode(values: jax.Array, code: Code, group: int) -> jax.Array:
    """Bytes[..., bytes, columns] of values[..., rows, columns]; a scale for each ``group`` rows."""
    kind, grouped = KINDS[code], _grouped(values, group)
    if code == "ternary":  # rows that fill up the last group count for nothing
        counts = _grouped(jnp.ones_like(values), group).sum(axis=-2)
        scales = [jnp.abs(grouped).sum(axis=-2) / counts]
    elif code == "int8":
        scales = [jnp.abs(grouped).max(axis=-2) / kind.highest]
    else:
        place = jnp.argmax(jnp.abs(grouped), axis=-2, keepdims=True)
        most = jnp.take_along_axis(grouped, place, axis=-2)[..., 0, :]
        scales = [most / kind.highest, SHRUNK * most / kind.highest, jnp.abs(most) / -kind.lowest]
    numbers, scale, error = _rounded(grouped, scales[0], kind)
    for other in scales[1:]:
        *found, less = _rounded(grouped, other, kind)
        better = less < error
        numbers = jnp.where(better[..., None, :], found[0], numbers)
        scale = jnp.where(better, found[1], scale)
    digits = _ungrouped(numbers - kind.lowest, values.shape[-2]).astype(jnp.uint16)
    return jnp.concatenate([_pack(digits, code, kind.packed), _bytes_of(scale)], axis=-2)


def _rounded(
    grouped: jax.Array, scale: jax.Array, kind: _Kind
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The numbers of a scale, the scale as float16, and the squared error of each group."""
    scale = scale.astype(jnp.float16)
    step = scale.astype(jnp.float32)[..., None, :]
    numbers = jnp.round(grouped / jnp.where(step != 0, step, 1))
    numbers = jnp.clip(numbers, kind.lowest, kind.highest)
    return numbers, scale, jnp.sum(jnp.square(numbers * step - grouped), axis=-2)


def decode(raw: jax.Array, code: Code, rows: int, group: int) -> jax.Array:
    """The inverse of :func:`encode`, in float32."""
    numbers, scale = parts(raw, code, rows, group)
    return _ungrouped(numbers * scale, rows)


def parts(raw: jax.Array, code: Code, rows: int, group: int) -> tuple[jax.Array, jax.Array]:
    """Numbers [..., groups, group, columns] and scales [..., groups, 1, columns] of bytes."""
    kind = KINDS[code]
    count = -(-rows // kind.packed)
    digits = _unpack(raw[..., :count, :], code, kind.packed)[..., :rows, :]
    numbers = _grouped(digits.astype(jnp.float32) + kind.lowest, group)
    return numbers, _scale_of(raw[..., count:, :])[..., None, :]


def _grouped(values: jax.Array, group: int) -> jax.Array:
    """[..., groups, group, columns], the last group filled up with zeros."""
    *lead, rows, columns = values.shape
    group = group or rows
    missing = -rows % group
    if missing:
        values = jnp.pad(values, [(0, 0)] * len(lead) + [(0, missing), (0, 0)])
    return values.reshape(*lead, -1, group, columns)


def _ungrouped(grouped: jax.Array, rows: int) -> jax.Array:
    *lead, groups, group, columns = grouped.shape
    return grouped.reshape(*lead, groups * group, columns)[..., :rows, :]


def _pack(digits: jax.Array, code: Code, packed: int) -> jax.Array:
    """Byte j of n holds the digits of rows j, j + n, j + 2 n and so on."""
    *lead, rows, columns = digits.shape
    count = -(-rows // packed)
    padding = [(0, 0)] * len(lead) + [(0, count * packed - rows), (0, 0)]
    parts = jnp.pad(digits, padding).reshape(*lead, packed, count, columns)
    base = 3 if code == "ternary" else 16
    value = parts[..., 0, :, :]
    for place in range(1, packed):
        value = value * base + parts[..., place, :, :]
    if code == "ternary":  # a fraction of 256, whose digits are read by products, not divisions
        value = (value * 256 + 242) // 243
    return value.astype(jnp.uint8)


def _unpack(packed_bytes: jax.Array, code: Code, packed: int) -> jax.Array:
    if code == "int8":
        return packed_bytes
    if code == "int4":
        return jnp.concatenate([packed_bytes >> 4, packed_bytes & 15], axis=-2)
    value, parts = packed_bytes.astype(jnp.uint16), []
    for _ in range(packed):
        value = value * 3
        parts.append(value >> 8)
        value = value & 255
    return jnp.concatenate(parts, axis=-2)


# Bytes and float16 are turned into each other by 16 whole bits, and not by a bitcast of pairs of
# bytes: where a model is a constant of a program, XLA folds that wrongly behind a gather on a CPU.


def _bytes_of(scale: jax.Array) -> jax.Array:
    """float16[..., groups, columns] as bytes[..., 2 groups, columns], the low byte first."""
    *lead, groups, columns = scale.shape
    bits = jax.lax.bitcast_convert_type(scale, jnp.uint16)
    pairs = jnp.stack([bits & 255, bits >> 8], axis=-2).astype(jnp.uint8)
    return pairs.reshape(*lead, SCALE_BYTES * groups, columns)


def _scale_of(raw: jax.Array) -> jax.Array:
    *lead, count, columns = raw.shape
    pairs = raw.reshape(*lead, count // SCALE_BYTES, SCALE_BYTES, columns).astype(jnp.uint16)
    bits = pairs[..., 0, :] | (pairs[..., 1, :] << 8)
    return jax.lax.bitcast_convert_type(bits, jnp.float16).astype(jnp.float32)
