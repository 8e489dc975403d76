"""What Hydra calls: the launcher of a sweep's jobs, and the report at its end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig

from smallnets import rows
from smallnets.rows import Row
from smallnets.sweep import FailedRunsError
from smallnets.sweep.execute import console, train
from smallnets.sweep.hosts import join, leads
from smallnets.sweep.jobs import Job
from smallnets.sweep.plan import Plan, plan_jobs
from smallnets.sweep.progress import progress_bars
from smallnets.sweep.result import score

OUR_SWEEPER = "hydra_plugins.smallnets.UncheckedSweeper"


def launch(
    context: HydraContext,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
) -> list[JobReturn]:
    """Plan and train all jobs of a sweep; every one is checked before the first is compiled.

    Where some fail, our sweeper ends with FailedRunsError; a search, and another's, is told of each
    job. Raises ValueError, one line, for what is wrong with any of them.
    """
    join()
    with progress_bars(console()) as progress:
        plan = plan_jobs(
            context,
            config,
            job_overrides,
            numbers=range(first, first + len(job_overrides)),
            track=lambda stage, items, total: progress.track(items, total=total, description=stage),
        )
    failed = None
    try:
        found = train(plan)
    except FailedRunsError as error:
        if config.hydra.sweeper._target_ == OUR_SWEEPER and not config.hydra.sweeper.search:
            raise
        failed, found = error, error.runs
    runs = {run.row.key: run.row for run in found}
    return [
        _returned(plan, job, runs.get(key), failed)
        for job, key in sorted(plan.jobs(), key=lambda pair: pair[0].number)
        if not job.chain  # the stages before a chain's last one are no jobs of the sweeper
    ]


def _returned(plan: Plan, job: Job, row: Row | None, failed: Exception | None) -> JobReturn:
    """What a sweeper is told of a job; one without a row failed, which a search may pass over."""
    return JobReturn(
        overrides=list(job.words),
        working_dir=str(plan.folder / row.key if row else plan.folder),
        task_name="smallnets",
        status=JobStatus.COMPLETED if row else JobStatus.FAILED,
        _return_value=score(row) if row else failed,
    )


class Report(Callback):
    """Writes the report of a sweep when all its runs are done, and says where it lies.

    ``score`` and ``validation`` name the metrics that are drawn and that choose the rate.
    """

    def __init__(self, score: str = "test_error", validation: str = "validation_error") -> None:
        self.score, self.validation = score, validation

    def on_multirun_end(self, config: DictConfig, **details: Any) -> None:
        from smallnets.analysis import report

        del details
        if not leads():
            return
        folder = Path(config.hydra.sweep.dir)
        try:
            if len(list(folder.glob(f"*/{rows.NAME}"))) < 2:
                return  # one run is no curve
            written = report.build(folder, score=self.score, validation=self.validation)
            print(f"report: {written}")
        except ValueError as error:
            print(f"no report: {error}")
