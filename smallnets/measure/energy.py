"""Joules of a training or of 1,000 inferences, each with its source: a meter, a model, or none.

A meter (:mod:`smallnets.measure.meter`) reads what the device drew. Without one, the model says
CPU-seconds times a stated power of a busy core, plus device-seconds times a stated power of the
device, with a low and a high beside it: ratios between runs on one machine hold better than the
joules themselves. Where neither can be said, all joules are None.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax

from smallnets.measure.meter import Meter, start, stop


@dataclass(frozen=True, kw_only=True)
class Power:
    """Watts that something draws while it is busy, and where the three numbers come from.

    Raises ValueError unless 0 < low <= middle <= high.
    """

    low_watts: float
    middle_watts: float
    high_watts: float
    source: str

    def __post_init__(self):
        if not 0 < self.low_watts <= self.middle_watts <= self.high_watts:
            raise ValueError(
                "power needs 0 < low <= middle <= high, but is "
                f"{self.low_watts}, {self.middle_watts}, {self.high_watts} W"
            )


BUSY_CORE = Power(
    low_watts=0.45,
    middle_watts=1.9,
    high_watts=4.0,
    source=(
        "a virtual core of a cloud machine, from SPECpower_ssj2008 by Cloud Carbon Footprint "
        "(ccf-coefficients, coefficients-aws-use.csv): AMD EPYC of the third generation idle "
        "(0.46 W) and busy (1.96 W), Intel Cascade Lake busy (4.06 W)"
    ),
)


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Joules of one piece of work.

    ``source`` is ``"meter"`` or ``"model"``; None means absent, and then every number is None.
    ``low_joules`` and ``high_joules`` are the model's bounds, None with a meter.
    ``idle_joules`` is what was taken off a meter's reading; None where the idle power of each part
    was not given, so that the joules hold idle power too. ``covers`` says what is in the number.
    """

    source: Literal["meter", "model"] | None
    joules: float | None
    low_joules: float | None
    high_joules: float | None
    idle_joules: float | None
    covers: str

    def times(self, factor: float) -> "Energy":
        """The energy of ``factor`` times as much work: 1 / members for one run of a group."""

        def scaled(joules: float | None) -> float | None:
            return None if joules is None else joules * factor

        return replace(
            self,
            joules=scaled(self.joules),
            low_joules=scaled(self.low_joules),
            high_joules=scaled(self.high_joules),
            idle_joules=scaled(self.idle_joules),
        )

    def plus(self, other: "Energy") -> "Energy":
        """The energy of both pieces of work; a number that one has not, the sum has not."""

        def both(name: str) -> float | None:
            one, two = getattr(self, name), getattr(other, name)
            return None if one is None or two is None else one + two

        if self.joules is None or other.joules is None:
            return absent(self.covers if self.joules is None else other.covers)
        names = ("joules", "low_joules", "high_joules", "idle_joules")
        return replace(self, **{name: both(name) for name in names})


def absent(why: str) -> Energy:
    """No number, and why there is none."""
    return Energy(
        source=None, joules=None, low_joules=None, high_joules=None, idle_joules=None, covers=why
    )


def modelled(
    *,
    cpu_seconds: float,
    core: Power = BUSY_CORE,
    device_seconds: float = 0.0,
    device: Power | None = None,
) -> Energy:
    """E = cpu_seconds P_core + device_seconds P_device, at the low, middle and high powers.

    ``cpu_seconds`` are summed over threads (``time.process_time``). Absent where a device was used
    whose power is not given. Raises ValueError for negative seconds.
    """
    if cpu_seconds < 0 or device_seconds < 0:
        raise ValueError(
            f"seconds are at least 0, but cpu_seconds={cpu_seconds}, "
            f"device_seconds={device_seconds}"
        )
    if device_seconds and device is None:
        return absent("the device's power is not stated and it has no meter")
    terms = [(cpu_seconds, core)] + ([(device_seconds, device)] if device else [])
    return Energy(
        source="model",
        joules=sum(seconds * power.middle_watts for seconds, power in terms),
        low_joules=sum(seconds * power.low_watts for seconds, power in terms),
        high_joules=sum(seconds * power.high_watts for seconds, power in terms),
        idle_joules=None,
        covers="busy cores" + (" and device" if device else ""),
    )


def metered(
    seconds: float, parts: Mapping[str, float], *, idle_watts: Mapping[str, float]
) -> Energy:
    """E = sum over parts of (joules - idle watts * seconds), of a meter's ``parts``.

    Absent where a GPU or processor reads no joules (the window was shorter than the meter's
    update), or where the sum is no more than idle.
    """
    if any(joules <= 0 for part, joules in parts.items() if not part.startswith("DRAM")):
        return absent("the meter has no reading for a window this short")
    known = parts.keys() <= idle_watts.keys()
    idle = sum(idle_watts[part] for part in parts) * seconds if known else None
    joules = sum(parts.values()) - (idle or 0.0)
    if joules <= 0:
        return absent("the meter read no more than idle power")
    return Energy(
        source="meter",
        joules=joules,
        low_joules=None,
        high_joules=None,
        idle_joules=idle,
        covers=", ".join(parts) + ("" if known else ", idle power included"),
    )


def measure(
    work: Callable[[], Any],
    *,
    meter: Meter | None,
    idle_watts: Mapping[str, float] | None = None,
    device: Power | None = None,
    cpu_clock: Callable[[], float] = time.process_time,
) -> tuple[Any, Energy]:
    """Trainer ``work()``, wait for its result, and say what it took: (result, energy).

    ``cpu_clock`` reads the CPU-seconds that are this work's own so far: of the whole process where
    it does nothing else meanwhile, else a :class:`smallnets.measure.energy.SharedClock`.
    The meter's parts count if they hold the device that JAX computes on: a GPU's meter says
    nothing about work on the processor, and then the model answers.
    """
    on_cpu = jax.default_backend() == "cpu"
    if meter is not None:
        start(meter)
    wall, cpu = time.perf_counter(), cpu_clock()
    try:
        result = jax.block_until_ready(work())
    finally:
        wall, cpu = time.perf_counter() - wall, cpu_clock() - cpu
        seconds, parts = (0.0, {}) if meter is None else stop(meter)
    if on_cpu:
        parts = {part: joules for part, joules in parts.items() if not part.startswith("GPU")}
    if any(part.startswith("CPU" if on_cpu else "GPU") for part in parts):
        return result, metered(seconds, parts, idle_watts=idle_watts or {})
    device_seconds = 0.0 if on_cpu else wall
    return result, modelled(cpu_seconds=cpu, device_seconds=device_seconds, device=device)


def thousand_inferences(
    program: Callable[[], Any],
    *,
    batch_size: int,
    meter: Meter | None,
    idle_watts: Mapping[str, float] | None = None,
    device: Power | None = None,
    seconds: float = 2.0,
) -> Energy:
    """Energy of 1,000 inferences: ``program()``, which infers ``batch_size`` examples, repeated.

    It runs once to warm up and then for at least ``seconds``, so that a meter can follow.
    """

    def repeated() -> int:
        calls, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end or not calls:
            jax.block_until_ready(program())
            calls += 1
        return calls

    jax.block_until_ready(program())
    calls, energy = measure(repeated, meter=meter, idle_watts=idle_watts, device=device)
    return energy.times(1000 / (calls * batch_size))


JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True)
class Rate:
    """An amount for each kilowatt-hour, in ``unit``, and where it comes from."""

    per_kwh: float
    unit: str
    source: str

    def __post_init__(self):
        if self.per_kwh < 0:
            raise ValueError(f"a rate is at least 0, but is {self.per_kwh} {self.unit} per kWh")


WORLD_CARBON = Rate(
    per_kwh=480.0,
    unit="g CO2e",
    source="world average of 2023, life cycle: Ember, Global Electricity Review 2024",
)
WORLD_PRICE = Rate(
    per_kwh=0.155,
    unit="USD",
    source="world average for businesses, first quarter of 2025: GlobalPetrolPrices.com",
)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Kilowatt-hours, grams of CO2 equivalent and money, with the source of the joules behind them.

    All None where the energy is absent. The model's bounds scale as its joules do.
    """

    source: Literal["meter", "model"] | None
    kwh: float | None
    grams_co2e: float | None
    cost: float | None
    currency: str


def footprint(
    energy: Energy, *, carbon: Rate = WORLD_CARBON, price: Rate = WORLD_PRICE
) -> Footprint:
    """kWh = J / 3.6e6; grams = kWh * carbon; cost = kWh * price.

    The electricity of the parts that ``energy`` covers: no cooling, no manufacture.
    """
    kwh = None if energy.joules is None else energy.joules / JOULES_PER_KWH
    return Footprint(
        source=energy.source,
        kwh=kwh,
        grams_co2e=None if kwh is None else kwh * carbon.per_kwh,
        cost=None if kwh is None else kwh * price.per_kwh,
        currency=price.unit,
    )


def format_energy(energies: Iterable[Energy], *, carbon: bool = False) -> str:
    """One clause for people: joules with their source.

    With ``carbon`` also grams of CO2 equivalent and money, at the world's averages. What is absent
    from one is absent from the sum, and the reason is given.
    """
    parts = list(energies)
    if missing := next((each.covers for each in parts if each.joules is None), None):
        return f"unknown energy: {missing}"
    joules = sum(each.joules or 0.0 for each in parts)
    low, high = (
        sum(getattr(each, name) or 0.0 for each in parts) for name in ("low_joules", "high_joules")
    )
    sources = {each.source for each in parts}
    source = " and ".join(sorted(str(each) for each in sources))
    bounds = f" {low:,.3g} to {high:,.3g} J" if sources == {"model"} else ""
    said = f"{joules:,.3g} J ({source}{bounds})"
    if not carbon:
        return said
    kwh = joules / JOULES_PER_KWH
    grams, price = kwh * WORLD_CARBON.per_kwh, kwh * WORLD_PRICE.per_kwh
    return f"{said}, {grams:.2g} {WORLD_CARBON.unit}, {price:.2g} {WORLD_PRICE.unit}"


class SharedClock:
    """The CPU-seconds of this process, split equally among the threads at work at the time.

    A library's own threads serve all of them, so that the operating system can't say which of two
    programs under way took the time. Inside ``at_work()``, a call gives the calling thread's share
    so far; all shares together are what the process took while any thread was at work.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._shares: dict[int, float] = {}
        self._read = time.process_time()

    def __call__(self) -> float:
        with self._lock:
            self._settle()
            return self._shares[threading.get_ident()]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.get_ident()
        with self._lock:
            self._settle()
            self._shares[thread] = 0.0
        try:
            yield
        finally:
            with self._lock:
                self._settle()
                del self._shares[thread]

    def _settle(self) -> None:
        now = time.process_time()
        for thread in self._shares:
            self._shares[thread] += (now - self._read) / len(self._shares)
        self._read = now
