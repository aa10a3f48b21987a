"""The recipes of our images, built by podman on a base of this machine and started as a cluster starts them.

It takes minutes and a network, so it is asked for: LLMOPS_TEST_BASE_IMAGE names a local image with Debian and Python
(deploy/images/local-base.sh makes one); for the training image LLMOPS_TEST_TORCH_LOCK names a lock of torch for this
machine. What the machine itself needs to reach packages (certificates, pip's settings) is lent to the build.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
BASE, LOCK = "LLMOPS_TEST_BASE_IMAGE", "LLMOPS_TEST_TORCH_LOCK"
LENT = ("/etc/ssl/certs", "/etc/pip.conf", "/opt/wheels")
# old runc and podman ask for more than a container of a container may have
SETTINGS = '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n[engine]\nruntime = "runc"\n'
USER = 10001
AS_IN_A_POD = (
    *("--read-only", "--user", f"{USER}:{USER}", "--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp:rw,mode=1777", "--network", "host", "--no-healthcheck"),
)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    program, base = shutil.which("podman"), os.environ.get(BASE, "")
    if not base:
        pytest.skip(f"no image is built: {BASE} names no local image to build on")
    if program is None:
        pytest.skip("no image is built: podman is not installed here")
    settings = tmp_path_factory.mktemp("podman") / "containers.conf"
    settings.write_text(SETTINGS)
    command = ["env", f"CONTAINERS_CONF={settings}", program]
    known = subprocess.run([*command, "image", "exists", base], capture_output=True, check=False)
    assert known.returncode == 0, f"{BASE} names {base}, which podman does not know"
    return command


def built(podman: list[str], recipe: str, tag: str, *arguments: str) -> str:
    lent = [word for path in LENT if Path(path).exists() for word in ("--volume", f"{path}:{path}:ro")]
    command = [*podman, "build", "--format", "docker", "--network", "host", "--pull-never", *lent, *arguments]
    command += ["--build-arg", f"PYTHON_IMAGE={os.environ[BASE]}", "-f", f"deploy/images/{recipe}", "-t", tag, "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return tag


def ran(podman: list[str], *words: str) -> str:
    done = subprocess.run([*podman, "run", "--rm", *AS_IN_A_POD, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def code(podman: list[str]) -> str:
    return built(podman, "code.Containerfile", "localhost/llmops-code:tried")


@pytest.fixture(scope="module")
def training(podman: list[str]) -> str:
    lock = os.environ.get(LOCK)
    if not lock:
        pytest.skip(f"the training image is not built: {LOCK} names no lock of torch below deploy/images")
    return built(
        podman, "training.Containerfile", "localhost/llmops-training:tried", "--build-arg", f"TORCH_LOCK={lock}"
    )


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository as the platform clones it: the commit that is checked out, its owner whoever runs in the image."""
    bare = tmp_path / "origin.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "branch", "--force", "tried", "HEAD"], check=True)
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(bare)], check=True)
    return bare


def test_the_code_location_did_not_start_in_its_image(
    podman: list[str], code: str, origin: Path, tmp_path: Path
) -> None:
    told = {"LLMOPS_ORIGIN": "file:///origin.git", "LLMOPS_BRANCH": "tried", "LLMOPS_ENVIRONMENT": "local"}
    told |= {"DAGSTER_HOME": "/tmp"}  # settings that do not fit a pod are said by each tick; nothing starts with them
    variables = [word for name, value in told.items() for word in ("--env", f"{name}={value}")]
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, USER, USER)
    mounts = ["--volume", f"{origin}:/origin.git:ro", "--volume", f"{state}:/var/lib/llmops:rw"]
    command = [*podman, "run", "--detach", *AS_IN_A_POD, *variables, *mounts, code]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        asked = [*podman, "exec", name, "dagster", "api", "grpc-health-check", "--port", "3030"]
        running = [*podman, "container", "inspect", "--format", "{{.State.Running}}", name]
        until = time.monotonic() + 180
        while subprocess.run(asked, capture_output=True, check=False).returncode != 0:
            said = subprocess.run([*podman, "logs", name], capture_output=True, text=True, check=False)
            runs = subprocess.run(running, capture_output=True, text=True, check=False).stdout.strip() == "true"
            assert runs and time.monotonic() < until, f"{said.stdout[-2000:]} {said.stderr[-2000:]}"
            time.sleep(2)
        assert (state / "state" / "own" / "clone" / ".git").is_dir()
    finally:
        subprocess.run([*podman, "rm", "--force", "--time", "5", name], capture_output=True, check=False)


def test_a_program_of_the_code_image_is_missing(podman: list[str], code: str) -> None:
    assert "llmops" in ran(podman, code, "llmops", "--help")
    programs = ("git", "ssh-keygen", "dvc", "dagster-webserver", "dagster-daemon", "mlflow")
    script = "import shutil, sys; print([p for p in sys.argv[1:] if not shutil.which(p)])"
    assert ran(podman, code, "python", "-c", script, *programs).strip() == "[]"
    missing = "import importlib.util as u; print([m for m in ('torch', 'pip', 'setuptools') if u.find_spec(m)])"
    assert "torch" not in ran(podman, code, "python", "-c", missing)
    assert ran(podman, code, "sh", "-c", "command -v gcc cc make pip || true").strip() == ""


def test_a_job_s_program_did_not_start_in_the_training_image(podman: list[str], training: str) -> None:
    work = ["--tmpfs", "/work:rw,mode=0777"]
    script = "import torch, transformers, peft, resources.jobs.job_pod; print(torch.ones(2).sum().item())"
    assert ran(podman, *work, training, "python", "-c", script).strip() == "2.0"
    assert "--config" in ran(podman, *work, training, "python", "-m", "recipes.finetune", "--help")
