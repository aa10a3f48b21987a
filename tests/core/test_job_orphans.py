"""The reaper's judgement: a job without a run is ended, and no other."""

from llmops_core.job_orphans import GoingJob, orphans

GRACE = 300


def job(run: str, began: float = 0) -> GoingJob:
    return GoingJob(f"job-of-{run}", run, began, "uid", "1")


def test_a_job_burnt_a_gpu_for_a_run_that_is_over_or_unknown() -> None:
    jobs = [job("going"), job("over"), job("unknown")]
    found = orphans(jobs, {"going": None, "over": 100.0}, 1000, GRACE)
    assert [(each.run_id, why) for each, why in found] == [
        ("over", "run over is over"),
        ("unknown", "run unknown is unknown"),
    ]


def test_a_job_was_ended_before_a_new_run_could_take_it_over() -> None:
    assert orphans([job("over")], {"over": 900.0}, 1000, GRACE) == []
    assert orphans([job("unknown", 900)], {}, 1000, GRACE) == []
    assert orphans([job("over", 900)], {"over": 100.0}, 1000, GRACE) == []  # begun by a worker that outlived its run
