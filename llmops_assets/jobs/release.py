"""The main job: everything from data to production, for one model at one revision."""

from dagster import AssetSelection, define_asset_job, in_process_executor

# Steps share one process: each costs 0.1 s there and 2 s in a process of its own, and the heavy work runs in jobs.
release = define_asset_job(
    "release",
    selection=AssetSelection.groups("data", "training", "registry", "staging", "release"),
    executor_def=in_process_executor,
    description="From a commit to production: data, training, evaluation, registration, staging, approval, canary.",
)
