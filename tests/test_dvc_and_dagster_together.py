"""DVC and Dagster in one environment, each doing what once broke the other.

Dagster's selection grammar and DVC's experiments (through hydra and omegaconf) each carry a parser that antlr
generated, and a parser only runs with the antlr runtime it was generated for. With the versions that the packages ask
for by themselves, one of the two fails as soon as it parses something; imports alone do not show it.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

DEFINITIONS = """
from dagster import AssetKey, Definitions, asset

@asset(group_name="data")
def rows():
    return 1

@asset(deps=[rows], key=["eu", "weights"])
def weights():
    return 2

@asset(deps=[AssetKey(["eu", "weights"])])
def report():
    return 3

@asset
def other():
    return 4

defs = Definitions(assets=[rows, weights, report, other])
"""

TRAIN = """
import json, pathlib, yaml
chosen = yaml.safe_load(pathlib.Path("params.yaml").read_text())["train"]
pathlib.Path("weights.json").write_text(json.dumps(chosen))
"""

PIPELINE = """
stages:
  train:
    cmd: {python} train.py
    deps: [train.py]
    params: [train]
    outs: [weights.json]
"""


def run(*command: str, cwd: Path, **environment: str) -> str:
    quiet = {"DVC_NO_ANALYTICS": "1", "DAGSTER_DISABLE_TELEMETRY": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **quiet, **environment}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", {"rows", "eu/weights", "report", "other"}),
        ("rows+", {"rows", "eu/weights"}),
        ('key:"rows"+', {"rows", "eu/weights", "report"}),
        ('key:"rows"+1', {"rows", "eu/weights"}),
        ("1+key:report or key:other", {"eu/weights", "report", "other"}),
        ('group:"data"', {"rows"}),
        ('key:"eu/weights"+ and not key:report', {"eu/weights"}),
        ("sinks(*) and not key:other", {"report"}),
    ],
)
def test_dagster_understands_selections_as_its_page_sends_them(text, expected):
    from dagster import AssetSelection, Definitions

    names: dict[str, Definitions] = {}
    exec(DEFINITIONS, names)
    graph = names["defs"].resolve_asset_graph()
    assert {key.to_user_string() for key in AssetSelection.from_string(text).resolve(graph)} == expected


@pytest.mark.slow
def test_dagster_materializes_what_a_selection_on_the_command_line_names(tmp_path):
    (tmp_path / "story.py").write_text(DEFINITIONS)
    (tmp_path / "home").mkdir()
    command = (sys.executable, "-m", "dagster", "asset", "materialize", "-f", "story.py", "--select", "key:rows+")
    said = run(*command, cwd=tmp_path, DAGSTER_HOME=str(tmp_path / "home"))
    for name in ("rows", "eu__weights", "report"):
        assert f"{name} - ASSET_MATERIALIZATION" in said
    assert "other - ASSET_MATERIALIZATION" not in said


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "params.yaml").write_text("train: {rate: 0.1, layers: [4, 4]}\n")
    (tmp_path / "dvc.yaml").write_text(PIPELINE.format(python=sys.executable))
    run("git", "init", "--quiet", cwd=tmp_path)
    run("git", "config", "user.email", "ada@example.com", cwd=tmp_path)
    run("git", "config", "user.name", "Ada", cwd=tmp_path)
    run(sys.executable, "-m", "dvc", "init", "--quiet", cwd=tmp_path)
    return tmp_path


def weights(pipeline: Path) -> dict[str, object]:
    return json.loads((pipeline / "weights.json").read_text())


def commit(pipeline: Path) -> None:
    run("git", "add", "--all", cwd=pipeline)
    run("git", "commit", "--quiet", "--message", "step", cwd=pipeline)


def test_dvc_reproduces_a_stage_when_its_parameter_changes(pipeline):
    dvc = (sys.executable, "-m", "dvc")
    assert "Running stage 'train'" in run(*dvc, "repro", cwd=pipeline)
    assert weights(pipeline)["rate"] == 0.1
    assert "didn't change, skipping" in run(*dvc, "repro", cwd=pipeline)
    (pipeline / "params.yaml").write_text("train: {rate: 0.2, layers: [4, 4]}\n")
    assert "Running stage 'train'" in run(*dvc, "repro", cwd=pipeline)
    assert weights(pipeline)["rate"] == 0.2


def test_dvc_runs_an_experiment_with_parameters_given_in_hydras_grammar(pipeline):
    dvc = (sys.executable, "-m", "dvc")
    run(*dvc, "repro", "--quiet", cwd=pipeline)
    commit(pipeline)
    run(*dvc, "exp", "run", "-S", "train.rate=0.5", "-S", "train.layers=[2,3]", "-S", "+train.new=a", cwd=pipeline)
    assert weights(pipeline) == {"rate": 0.5, "layers": [2, 3], "new": "a"}
    assert "0.5" in run(*dvc, "exp", "show", "--csv", cwd=pipeline)


@pytest.mark.slow
def test_dvc_queues_a_grid_of_experiments(pipeline):
    dvc = (sys.executable, "-m", "dvc")
    run(*dvc, "repro", "--quiet", cwd=pipeline)
    commit(pipeline)
    said = run(*dvc, "exp", "run", "--queue", "-S", "train.rate=choice(0.3,0.4)", cwd=pipeline)
    assert said.count("Queued experiment") == 2


def test_both_parse_in_one_process_with_the_antlr_that_is_installed(tmp_path):
    assert version("antlr4-python3-runtime").startswith("4.13")
    probe = (
        "from hydra.core.override_parser.overrides_parser import OverridesParser as P;"
        "from dagster import AssetSelection as A;"
        "print(P.create().parse_override('a.b=[1]').value(), type(A.from_string('key:a+')).__name__)"
    )
    said = run(sys.executable, "-W", "ignore", "-c", probe, cwd=tmp_path)
    assert said.startswith("[1] ")
    assert "ANTLR runtime and generated code versions disagree" not in said
