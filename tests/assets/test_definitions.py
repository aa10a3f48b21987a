"""The code location: what people see in the UI before anything runs, and what loading it must not cost."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from dagster import AssetSelection, Definitions, DynamicPartitionsDefinition

from llmops_assets.definitions import STORY, build
from llmops_assets.executor import executor_of, steps_in_pods
from llmops_assets.jobs.audit import audit
from llmops_assets.jobs.release import release
from llmops_core.plan import STAGES
from llmops_core.settings import load_settings
from resources.home import Home

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "mlflow", "peft", "kubernetes", "pygit2", "matplotlib")


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory):
    defs = build(Home(ROOT, tmp_path_factory.mktemp("home"), 8600))
    defs.validate_loadable(defs)
    return defs


def test_a_watched_repository_had_no_sensor_of_its_own(tmp_path: Path) -> None:
    settings = (ROOT / "config" / "local.yaml").read_text()
    (tmp_path / "config").mkdir()
    watched = "repositories: [{name: team-a, url: https://git.example.com/a.git, branch: main}]"
    (tmp_path / "config" / "local.yaml").write_text(f"{settings}\n{watched}\n")
    names = {sensor.name for sensor in build(Home(tmp_path, tmp_path / "home", 8600)).sensors or ()}
    assert {"repository", "repository_team_a"} <= names


def test_steps_worked_elsewhere_than_the_settings_say(definitions, tmp_path: Path) -> None:
    jobs = [definitions.resolve_job_def(name) for name in ("release", "audit", "watch", "take_arrivals")]
    assert [job.executor_def.name for job in jobs] == ["in_process"] * 4
    settings = load_settings((ROOT / "config" / "staging.yaml").read_bytes(), "config/staging.yaml")
    in_pods = executor_of(settings.model_copy(update={"executor": "k8s_job"}))
    whole = Definitions(assets=STORY, jobs=[release, audit], executor=in_pods, resources=definitions.resources)
    assert [whole.resolve_job_def(name).executor_def.name for name in ("release", "audit")] == ["k8s_job", "in_process"]
    assert executor_of(settings).name == "in_process"


def test_the_job_of_a_step_did_not_belong_to_its_run_s_pod() -> None:
    wanted = {"limits": {"memory": "1Gi"}}
    asked = {"per_step_k8s_config": {"weights": {"container_config": {"resources": wanted}}}}
    made = steps_in_pods().apply_config_mapping({"config": asked})
    assert made.success and made.value["config"]["enable_owner_references"] is True
    assert made.value["config"]["per_step_k8s_config"]["weights"]["container_config"]["resources"] == wanted


def test_settings_that_cannot_be_read_hid_the_sensor_that_says_so(tmp_path: Path) -> None:
    names = {sensor.name for sensor in build(Home(tmp_path, tmp_path / "home", 8600)).sensors or ()}
    assert "repository" in names


def test_loading_the_code_location_imported_what_only_jobs_need() -> None:
    script = f"import sys, llmops_assets.definitions; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_imported_dagster() -> None:
    modules = ", ".join(f"llmops_assets.cli.{name}" for name in ("main", "status", "release", "audit"))
    script = f"import sys, {modules}; print([m for m in {('dagster', *HEAVY)!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_graph_told_another_story_than_the_plan(definitions) -> None:
    graph = definitions.resolve_asset_graph()
    names = [asset.key.to_user_string() for asset in STORY]
    assert names[: len(STAGES)] == list(STAGES)
    for earlier, later in pairwise(STAGES):
        node = graph.get(next(a.key for a in STORY if a.key.to_user_string() == later))
        assert earlier in {key.to_user_string() for key in node.parent_keys}, f"{later} does not follow {earlier}"


def test_an_asset_had_no_description_owner_group_or_kind(definitions) -> None:
    for asset in STORY:
        (spec,) = asset.specs
        assert spec.description and spec.owners and spec.group_name != "default" and spec.kinds, spec.key
        assert isinstance(spec.partitions_def, DynamicPartitionsDefinition)


def test_a_string_selection_selected_nothing_or_failed(definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert len(AssetSelection.from_string("key:dataset+").resolve(graph)) > 1
    assert {k.to_user_string() for k in AssetSelection.from_string('group:"staging"').resolve(graph)} == {
        "staging_deployment",
        "staging_tests",
    }


def test_dagster_s_own_validation_refused_the_location(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("dagster")), "definitions", "validate", "-w", "workspace.yaml"]
    environment = {"DAGSTER_HOME": str(tmp_path), "LLMOPS_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
