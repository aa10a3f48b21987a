"""The recipes of our images: pinned, checked by hash, run by nobody's root, and without what only a build needs."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import click
import pytest
import yaml
from dagster._cli.api import grpc_command

from tests.deploy.manifests import HELM, KUBERNETES, ROOT

IMAGES = ROOT / "deploy" / "images"
RECIPES = sorted(IMAGES.glob("*.Containerfile"))
recipes = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)


def test_a_recipe_is_missing() -> None:
    assert [path.name for path in RECIPES] == ["code.Containerfile", "training.Containerfile", "vllm.Containerfile"]


@recipes
def test_a_base_image_is_not_pinned_by_digest(recipe: Path) -> None:
    ((variable, base),) = re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", recipe.read_text(), re.MULTILINE)
    known = r"docker\.io/(library/python:3\.11\.\d+-slim-\w+|vllm/vllm-openai:v\d+\.\d+\.\d+)@sha256:[0-9a-f]{64}"
    assert re.fullmatch(known, base)
    assert re.findall(r"^FROM (\S+)", recipe.read_text(), re.MULTILINE) == [f"${{{variable}}}"] * 2


def test_the_two_images_have_different_pythons() -> None:
    assert (
        len({line for path in RECIPES for line in path.read_text().splitlines() if line.startswith("ARG PYTHON_")}) == 1
    )


@recipes
def test_a_package_is_installed_without_its_hash(recipe: Path) -> None:
    installs = re.findall(r"pip (?:--python \S+ )?install(.*?)(?<!\\)\n", recipe.read_text(), re.DOTALL)
    assert "--require-hashes" in installs[0] and "--only-binary :all:" in installs[0]
    assert all("--no-index" in each for each in installs[1:])  # our own wheel, built from what is there


def test_a_lock_of_torch_is_without_hashes_or_of_another_version() -> None:
    lock = (IMAGES / "torch-cuda.lock").read_text()
    assert (ROOT / "requirements/torch.txt").read_text().strip() in lock
    blocks = re.split(r"\n(?=[a-z])", lock.split("\n", 2)[2])
    assert blocks and all("--hash=sha256:" in block for block in blocks)
    run = (ROOT / "requirements/run.lock").read_text()
    twice = [name for name in re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE) if f"\n{name}==" in run]
    assert twice == []


def test_what_runs_beside_vllm_lacks_a_package_or_has_another_version() -> None:
    """Only what the program in a pod and the evaluation import is there; boto3 is imported late."""
    names = "{each.split('.')[0] for each in sys.modules}"
    told = f"import sys, boto3, resources.jobs.job_pod, recipes.evaluate; print(*{names})"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded, owners = set(done.stdout.split()), packages_distributions()
    needed = {owner.lower().replace("_", "-") for name in loaded for owner in owners.get(name, ())}
    lock = set(re.findall(r"^\S+==\S+", (IMAGES / "vllm-guests.lock").read_text(), re.MULTILINE))
    spared = {"llmops-assets", "setuptools", "certifi"}  # botocore has certificates of its own
    spared |= {"coverage"}  # of who measures this test
    assert needed - spared <= {pin.partition("==")[0] for pin in lock}
    assert lock <= set(re.findall(r"^\S+==\S+", (ROOT / "requirements/run.lock").read_text(), re.MULTILINE))


@recipes
def test_the_runtime_stage_has_a_compiler_or_a_root_user(recipe: Path) -> None:
    runtime = recipe.read_text().split(" AS runtime\n")[1]
    assert not re.search(r"gcc|g\+\+|build-essential|\bmake\b|-dev\b|pip install", runtime)
    assert re.findall(r"^USER (\S+)$", runtime, re.MULTILINE) == ["10001:10001"]
    assert "HEALTHCHECK" in runtime and "PYTHONDONTWRITEBYTECODE=1" in runtime
    assert runtime.index("USER ") > runtime.rindex("RUN ")  # nothing that needs root comes after


def test_the_context_of_a_build_holds_keys_or_data() -> None:
    first, *others = [
        line for line in (ROOT / ".containerignore").read_text().splitlines() if line[:1] not in ("#", "")
    ]
    assert first == "*"  # everything is out but what is named
    named = {line[1:] for line in others if line.startswith("!")}
    copied = {
        source
        for recipe in RECIPES
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", recipe.read_text(), re.MULTILINE)
        for source in line.split()
    }
    assert all(any(Path(source).match(name) for name in named) for source in copied - {"${TORCH_LOCK}"}), copied
    assert (ROOT / ".dockerignore").resolve() == ROOT / ".containerignore"


def test_the_manifests_name_another_version_than_the_project_has() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    told = {tag for path in KUBERNETES.rglob("*.yaml") for tag in re.findall(r"newTag: (\S+)", path.read_text())}
    told |= set(re.findall(r"llmops/code\n\s+tag: (\S+)", (HELM / "values.yaml").read_text()))
    assert told == {version}


@pytest.mark.parametrize("script", sorted(IMAGES.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_that_its_shell_cannot_read(script: Path) -> None:
    shell = script.read_text().splitlines()[0].split("/")[-1].split()[-1]
    assert subprocess.run([shell, "-n", str(script)], capture_output=True, check=False).returncode == 0
    assert script.stat().st_mode & 0o111


@recipes
def test_hadolint_finds_fault(recipe: Path) -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed here")
    done = subprocess.run([program, str(recipe)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_code_location_is_started_with_an_option_that_dagster_does_not_have() -> None:
    told = re.findall(r"^CMD (\[.*\])$", RECIPES[0].read_text(), re.MULTILINE)
    (deployment,) = yaml.safe_load((HELM / "values.yaml").read_text())["dagster-user-deployments"]["deployments"]
    for arguments in (json.loads(told[0])[3:], deployment["dagsterApiGrpcArgs"]):
        given, left, _ = grpc_command.make_parser(click.Context(grpc_command)).parse_args(arguments)
        assert given["module_name"] == "llmops_assets.definitions" and left == []
