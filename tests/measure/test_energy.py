"""Joules and their sources: with a meter of our own making, and without any."""

import time
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallnets.measure import energy, meter
from smallnets.measure.energy import BUSY_CORE, Power, Rate, footprint, measure, metered, modelled

watts = st.floats(0.1, 1000)
seconds = st.floats(0.1, 1e6)


@dataclass
class Reading:
    time: float
    gpu_energy: dict[int, float] = field(default_factory=dict)
    cpu_energy: dict[int, float] | None = None
    dram_energy: dict[int, float] | None = None


@dataclass
class FakeMeter:
    """Gives the same reading for every window, and notes whether one is open."""

    reading: Reading
    windows: list[str] = field(default_factory=list)
    closed: int = 0

    def begin_window(self, key: str, sync_execution: bool = True) -> None:
        self.windows.append(key)

    def end_window(self, key: str, sync_execution: bool = True) -> Reading:
        assert self.windows.pop() == key
        self.closed += 1
        return self.reading


@given(cpu=seconds, device=seconds)
def test_the_model_multiplies_seconds_by_stated_power(cpu, device):
    gpu = Power(low_watts=100, middle_watts=300, high_watts=700, source="a data sheet")
    found = modelled(cpu_seconds=cpu, device_seconds=device, device=gpu)
    assert found.source == "model"
    assert found.low_joules == pytest.approx(0.45 * cpu + 100 * device)
    assert found.joules == pytest.approx(1.9 * cpu + 300 * device)
    assert found.high_joules == pytest.approx(4 * cpu + 700 * device)
    assert modelled(cpu_seconds=cpu).joules == pytest.approx(1.9 * cpu)


def test_a_device_whose_power_nobody_states_has_no_joules():
    found = modelled(cpu_seconds=3, device_seconds=2)
    assert (found.source, found.joules, found.low_joules, found.high_joules) == (None,) * 4
    assert "not stated" in found.covers


@given(time=seconds, gpu=watts, cpu=watts, idle=st.floats(0, 0.9))
def test_a_meter_is_read_less_idle_power(time, gpu, cpu, idle):
    parts = {"GPU 0": gpu * time, "CPU package 0": cpu * time}
    idle_watts = {"GPU 0": idle * gpu, "CPU package 0": idle * cpu, "DRAM 0": 1.0}
    found = metered(time, parts, idle_watts=idle_watts)
    assert found.source == "meter"
    assert found.idle_joules == pytest.approx(idle * (gpu + cpu) * time)
    assert found.joules == pytest.approx((1 - idle) * (gpu + cpu) * time)
    assert (found.low_joules, found.high_joules) == (None, None)
    assert found.covers == "GPU 0, CPU package 0"


def test_without_the_idle_power_of_every_part_none_is_taken_off():
    found = metered(2.0, {"GPU 0": 10.0, "GPU 1": 10.0}, idle_watts={"GPU 0": 1.0})
    assert (found.joules, found.idle_joules) == (20.0, None)
    assert "idle power included" in found.covers


@pytest.mark.parametrize(
    ("parts", "idle_watts"),
    [({"GPU 0": 0.0}, {}), ({"CPU package 0": 4.0}, {"CPU package 0": 2.0})],
    ids=["too short a window", "no more than idle"],
)
def test_a_reading_that_says_nothing_gives_no_joules(parts, idle_watts):
    found = metered(2.0, parts, idle_watts=idle_watts)
    assert (found.source, found.joules, found.idle_joules) == (None, None, None)


def test_a_processor_meter_measures_work_on_the_processor():
    fake = FakeMeter(Reading(4.0, cpu_energy={0: 100.0, 1: 60.0}, dram_energy={0: 8.0}))
    idle = meter.idle_watts(fake, seconds=1.0)
    assert idle == {"CPU package 0": 25.0, "CPU package 1": 15.0, "DRAM 0": 2.0}
    fake.reading = Reading(
        10.0, gpu_energy={0: 999.0}, cpu_energy={0: 400.0, 1: 200.0}, dram_energy={0: 25.0}
    )
    result, found = measure(lambda: jnp.arange(3).sum(), meter=fake, idle_watts=idle)
    assert int(result) == 3
    assert (fake.windows, fake.closed) == ([], 2)
    assert found.source == "meter"
    assert found.joules == pytest.approx(625 - 420)  # the GPU did nothing for it
    assert found.idle_joules == pytest.approx(420)


def test_a_gpu_meter_says_nothing_about_work_on_the_processor():
    fake = FakeMeter(Reading(1.0, gpu_energy={0: 50.0}))
    _, found = measure(lambda: jnp.ones(3), meter=fake)
    assert found.source == "model"


def test_work_on_an_accelerator_is_metered_or_absent_never_its_host_alone(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    _, found = measure(lambda: None, meter=FakeMeter(Reading(1.0, gpu_energy={0: 50.0})))
    assert (found.source, found.joules) == ("meter", 50.0)
    for blind in (None, FakeMeter(Reading(1.0, cpu_energy={0: 50.0}))):
        _, found = measure(lambda: None, meter=blind)
        assert (found.source, found.joules) == (None, None)
        stated = Power(low_watts=1, middle_watts=2, high_watts=3, source="stated")
        _, found = measure(lambda: None, meter=blind, device=stated)
        assert found.source == "model"


def test_a_window_is_closed_when_the_work_fails():
    fake = FakeMeter(Reading(1.0))
    with pytest.raises(ZeroDivisionError):
        measure(lambda: 1 / 0, meter=fake)
    assert (fake.windows, fake.closed) == ([], 1)


def test_this_machine_says_model_unless_it_has_a_meter():
    found_meter = meter.find_meter()
    _, found = measure(lambda: jnp.ones((64, 64)) @ jnp.ones((64, 64)), meter=found_meter)
    if found_meter is None:
        assert found.source == "model"
        assert found.joules is not None
        assert found.low_joules is not None
        assert found.joules / found.low_joules == pytest.approx(1.9 / 0.45)
    else:
        assert found.source in ("meter", "model", None)


def test_sleeping_takes_next_to_no_modelled_joules_and_working_takes_some():
    """The model follows the processor's time, not the clock's: no constant."""

    def work():
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    asleep, awake = (measure(f, meter=None)[1].joules for f in (lambda: time.sleep(0.2), work))
    assert asleep is not None
    assert awake is not None
    assert awake >= 0.2 * BUSY_CORE.middle_watts
    assert asleep < awake / 4


def test_a_thousand_inferences_scale_with_the_calls_and_the_batch():
    fake = FakeMeter(Reading(1.0, cpu_energy={0: 30.0}))
    calls = []

    def program():
        calls.append(1)
        return jnp.ones(1)

    found = energy.thousand_inferences(program, batch_size=8, meter=fake, seconds=0.01)
    timed = len(calls) - 1  # the first one warms up, outside the window
    assert timed >= 1
    assert found.joules == pytest.approx(30.0 * 1000 / (timed * 8))


@given(joules=st.floats(0, 1e12), grams=st.floats(0, 1000), price=st.floats(0, 10))
def test_a_footprint_is_kilowatt_hours_times_the_rates(joules, grams, price):
    found = footprint(
        modelled(cpu_seconds=joules / BUSY_CORE.middle_watts),
        carbon=Rate(per_kwh=grams, unit="g CO2e", source="a grid"),
        price=Rate(per_kwh=price, unit="EUR", source="a contract"),
    )
    assert (found.source, found.currency) == ("model", "EUR")
    assert found.kwh == pytest.approx(joules / 1000 / 3600)
    assert found.grams_co2e == pytest.approx(joules / 3.6e6 * grams)
    assert found.cost == pytest.approx(joules / 3.6e6 * price)


def test_absent_energy_has_no_footprint():
    found = footprint(energy.absent("no meter"))
    assert (found.source, found.kwh, found.grams_co2e, found.cost) == (None,) * 4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Power(low_watts=2, middle_watts=1, high_watts=3, source=""),
        lambda: Power(low_watts=0, middle_watts=1, high_watts=3, source=""),
        lambda: Rate(per_kwh=-1, unit="EUR", source=""),
        lambda: modelled(cpu_seconds=-1),
        lambda: meter.idle_watts(FakeMeter(Reading(1.0)), seconds=0.1),
    ],
)
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match=r"needs|at least"):
        wrong()
