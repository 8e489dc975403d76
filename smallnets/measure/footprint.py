"""What energy means outside: kilowatt-hours, carbon and money. The rates are inputs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from smallnets.measure.energy import Energy

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


def spelled(energies: Iterable[Energy]) -> str:
    """One clause for people: joules with their source, carbon and money, at the world's averages.

    What is absent from one is absent from the sum, and the reason is given.
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
    kwh = joules / JOULES_PER_KWH
    return (
        f"{joules:,.3g} J ({source}{bounds}), {kwh * WORLD_CARBON.per_kwh:.2g} "
        f"{WORLD_CARBON.unit}, {kwh * WORLD_PRICE.per_kwh:.2g} {WORLD_PRICE.unit}"
    )
