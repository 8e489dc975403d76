"""What a plan must be before it is trained here: said in one line, before anything is written."""

from smallnets.measure import machine
from smallnets.sweep.plan import Plan, Program
from smallnets.sweep.settings import Settings
from smallnets.training.stream import blank_batches


def check_here(programs: list[Program], said: Settings) -> None:
    """Raise ValueError where programs ask for devices or memory that are not here."""
    check_devices(programs, said)
    check_memory(programs, said.memory_limit or machine.memory())
    check_stretch(programs, said.memory_limit or machine.memory() // 2)


def check_devices(programs: list[Program], said: Settings) -> None:
    """Raise ValueError where a mesh is not of this machine, or a batch not to be shared by it."""
    for program in programs:
        trainer, mesh = program.trainer, program.trainer.mesh()
        mesh.check_devices()
        if said.execution == "map" or len(program.group.jobs) == 1:
            mesh.check_batch(trainer.batch_size)


def check_memory(programs: list[Program], limit: int) -> None:
    """Raise ValueError where one run's parameters and their gradient alone exceed the memory.

    What else a run takes XLA knows once the program is compiled. A mesh cuts them in parts.
    """
    for program in programs:
        parts = program.trainer.mesh().parts
        needed = 2 * int(program.costs["bytes"]) // parts
        if needed > limit:
            of_each = f", in {parts} parts," if parts > 1 else ""
            raise ValueError(
                f"{program.label}: one run must fit into memory, but its parameters and their "
                f"gradient alone take{of_each} {needed:,} bytes of {limit:,}: use a smaller model, "
                "or more devices with mesh.model=..."
            )


def check_stretch(programs: list[Program], limit: int) -> None:
    """Raise ValueError where the batches between two evaluations, read from disk, are too many.

    A stretch is in memory while the next is read.
    """
    for program in programs:
        batches = blank_batches(program.trainer, program.data, 1)
        if batches is not None and (needed := 2 * batches.inputs.nbytes) > limit:
            raise ValueError(
                f"{program.label}: the batches of two stretches between evaluations must fit into "
                f"memory, but take {needed:,} bytes of {limit:,}: raise evaluations"
            )


def check_saved(plan: Plan, has_folders: bool) -> None:
    """Raise ValueError where runs without folders were to keep their models."""
    for program in plan.programs:
        if not has_folders and program.trainer.save != "none":
            raise ValueError(
                f"of {plan.runs:,} runs the rows of a program are one file, which holds no model: "
                "add save=none, or hydra.launcher.folders=true for a folder each"
            )
