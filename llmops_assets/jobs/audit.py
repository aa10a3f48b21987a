"""The audit has a job of its own: whatever failed before it must not keep it from running."""

from dagster import AssetSelection, define_asset_job, in_process_executor

audit = define_asset_job(
    "audit",
    selection=AssetSelection.groups("audit"),
    executor_def=in_process_executor,
    description="From the running endpoint back to commit and data, every byte hashed again.",
)
