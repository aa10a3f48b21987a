"""The main job: everything from data to production, for one model at one revision."""

from dagster import AssetSelection, define_asset_job

# Its steps work where the settings say (llmops_assets/executor.py). The other jobs have one or two short steps each,
# which always share the run's process.
release = define_asset_job(
    "release",
    selection=AssetSelection.groups("data", "training", "registry", "staging", "release"),
    description="From a commit to production: data, training, evaluation, registration, staging, approval, canary.",
)
