"""The memory that a compiled program needs, as XLA planned it; nothing is run."""

from dataclasses import dataclass

import jax


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on the device while a program runs; XLA's plan, without its own code.

    ``aliased_bytes`` are results that take over the memory of donated arguments. On several
    devices, the bytes of each.
    """

    arguments_bytes: int
    results_bytes: int
    aliased_bytes: int
    temporaries_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Arguments + results - aliased + temporaries.

        The last are the most that XLA holds at once. (Its own field for the peak leaves them out
        on CPU, in jaxlib 0.10.)
        """
        held = self.arguments_bytes + self.results_bytes - self.aliased_bytes
        return held + self.temporaries_bytes


def memory(program: jax.stages.Compiled) -> Memory:
    """Memory of ``jax.jit(function).lower(*arguments).compile()``, for arguments of any kind.

    Raises ValueError where the device's compiler doesn't say.
    """
    analysis = program.memory_analysis()
    if analysis is None:
        raise ValueError("this device's compiler has no memory analysis: compile for cpu or cuda")
    return Memory(
        arguments_bytes=analysis.argument_size_in_bytes,
        results_bytes=analysis.output_size_in_bytes,
        aliased_bytes=analysis.alias_size_in_bytes,
        temporaries_bytes=analysis.temp_size_in_bytes,
    )
