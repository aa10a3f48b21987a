"""The code location: every asset, check, job, sensor and schedule, on the platform that the environment names."""

import os
from pathlib import Path

from dagster import Definitions

from llmops_assets.assets.approval import approval
from llmops_assets.assets.base_weights import base_weights
from llmops_assets.assets.canary import canary
from llmops_assets.assets.dataset import dataset
from llmops_assets.assets.evaluation import evaluation
from llmops_assets.assets.feedback import feedback
from llmops_assets.assets.lineage import lineage
from llmops_assets.assets.monitoring import monitoring
from llmops_assets.assets.production import production
from llmops_assets.assets.registered_version import registered_version
from llmops_assets.assets.staging_deployment import staging_deployment
from llmops_assets.assets.staging_tests import staging_tests
from llmops_assets.assets.weights import weights
from llmops_assets.checks.evidence import evidence
from llmops_assets.checks.gates import gates
from llmops_assets.code_location import shape_of
from llmops_assets.executor import executor_of
from llmops_assets.jobs.audit import audit
from llmops_assets.jobs.release import release
from llmops_assets.jobs.take_arrivals import take_arrivals
from llmops_assets.jobs.watch import watch
from llmops_assets.resource import PlatformResource
from llmops_assets.schedules.operation import watch_production
from llmops_assets.sensors.approvals import approvals
from llmops_assets.sensors.arrivals import arrivals_sensor
from llmops_assets.sensors.audits import audits
from llmops_assets.sensors.canaries import canaries
from llmops_assets.sensors.dependents import dependents
from llmops_assets.sensors.failures import failures, orphans
from llmops_assets.sensors.jobs import reaper
from llmops_assets.sensors.repository import repository, watching
from llmops_core.errors import InputError
from llmops_core.settings import Settings
from resources.home import Home, home_from
from resources.wiring import build_platform

STORY = [dataset, base_weights, weights, evaluation, registered_version, staging_deployment, staging_tests]
STORY += [approval, canary, production, monitoring, feedback, lineage]


def build(home: Home) -> Definitions:
    """Everything, for one platform. Nothing is opened yet; of the settings only what is watched is read."""
    settings = _settings(home)
    platform = PlatformResource(
        repository=str(home.repository),
        home=str(home.root),
        port_base=home.port_base,
        environment=home.environment,
        origin=home.origin_variables,
        shape=shape_of(settings),
    )
    return Definitions(
        assets=STORY,
        asset_checks=[*gates, *evidence],
        jobs=[release, audit, watch, take_arrivals],
        sensors=[
            *(repository, approvals, dependents, audits, failures, orphans, canaries),
            *([reaper] if home.origin or (settings and settings.jobs.kind == "kubernetes") else []),
            *map(watching, settings.repositories if settings else ()),
            *(arrivals_sensor(place.name) for place in (settings.arrivals if settings else ())),
        ],
        schedules=[watch_production],
        resources={"platform": platform},
        executor=executor_of(settings),
    )


def _settings(home: Home) -> Settings | None:
    """None where they cannot be read, which every tick of the repository sensor then says."""
    try:
        return build_platform(home).settings
    except InputError:
        return None


# The one place where the environment is read: Dagster imports this module by name.
defs = build(home_from(os.environ, Path(__file__).parent))
