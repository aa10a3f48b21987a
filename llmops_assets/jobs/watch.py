"""What production did lately, measured against what it promised, and what its users said."""

from dagster import AssetSelection, define_asset_job, in_process_executor

watch = define_asset_job(
    "watch",
    selection=AssetSelection.groups("operation"),
    executor_def=in_process_executor,
    description="Service level objectives and error budget of what serves now, and the ratings of its answers.",
)
