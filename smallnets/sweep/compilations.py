"""The cache of compiled programs, and how many of a sweep's came from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.monitoring

_REQUEST = "/jax/compilation_cache/compile_requests_use_cache"
_HIT = "/jax/compilation_cache/cache_hits"


@dataclass
class Compilations:
    """``programs`` that were asked for, and how many of them came ``from_cache``."""

    programs: int = 0
    from_cache: int = 0

    def __str__(self) -> str:
        compiled = self.programs - self.from_cache
        return f"{self.programs} programs: {compiled} compiled, {self.from_cache} from the cache"


@contextmanager
def counting_compilations(cache: Path, count: Compilations) -> Iterator[None]:
    """Keep every compiled program in ``cache`` and take it from there; ``count`` them."""
    settings = {
        "jax_compilation_cache_dir": str(cache / "programs"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)

    def listen(event: str, **details: str | int) -> None:
        del details
        count.programs += event == _REQUEST
        count.from_cache += event == _HIT

    jax.monitoring.register_event_listener(listen)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_listener(listen)
        for name, value in before.items():
            jax.config.update(name, value)
