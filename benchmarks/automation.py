"""What a sensor's tick costs, in repositories of three sizes, beside what it would cost by other means.

    python benchmarks/automation.py [--models 10 100 1000] [--files 1000 10000 100000] [--repeats 30]

For each size a real Git repository is made: models that share the project's recipes, one DVC pointer a model, and other
files in folders of a hundred. Then the repository sensor itself is evaluated, on a real Dagster instance and ledger:

- idle: the branch is where it was. Limit: 5 ms of our own time (Dagster's preparation of a tick comes on top), and 500
  times less than `dvc status`. Beside it: reading HEAD alone (nothing can cost less), `git ls-remote`, `git status`.
- changed: a commit changed one data pointer. Until the run request is there: 100 ms. Also printed: a commit that only
  touches a README, and the first tick of a new process, which reads every model once.

Figures are medians in milliseconds; `dvc status` runs once on as many pointers as there are (its own start included).
Git programs are timed with their start too: that is how they would be used. Exit code 1 when a limit is missed at the
largest size.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402
from dagster import DagsterInstance, SensorResult, SkipReason, build_sensor_context  # noqa: E402

from llmops_assets.release import head_of  # noqa: E402
from llmops_assets.resource import PlatformResource  # noqa: E402
from llmops_assets.sensors.repository import repository as sensor  # noqa: E402
from tests.fakes.git_with_data import DATA, MODEL, GitWithData  # noqa: E402

IDLE_MS, CHANGED_MS, TIMES_DVC = 5.0, 100.0, 500.0


def made(path: Path, models: int, files: int) -> GitWithData:
    """A repository of this size, committed."""
    path.mkdir(parents=True)
    repository = GitWithData(path)
    repository.git("init", "--quiet", "--template=", "--initial-branch", "main")
    repository.git("config", "gc.auto", "0")
    for folder in ("recipes", "config", "llmops_core"):
        shutil.copytree(ROOT / folder, path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    repository.track(DATA)
    pointer = (path / "data" / "tiny.dvc").read_text()
    (path / "data" / "tiny.dvc").unlink()
    for number in range(models):
        name = f"model-{number:04d}"
        spec = {**MODEL, "name": name, "data": {"path": f"data/{name}", "pii": "refuse"}}
        write(path / "models" / name / "model.yaml", yaml.safe_dump(spec))
        write(path / "data" / f"{name}.dvc", pointer.replace("tiny", name))
    for number in range(files):
        write(path / "files" / f"{number // 100:04d}" / f"{number:06d}.txt", str(number))
    write(path / ".dvc" / "config", "[core]\n    analytics = false\n")
    write(path / ".gitignore", "__pycache__/\n")
    write(path / ".dvc" / ".gitignore", "/cache\n/tmp\n")
    write(path / "requirements" / "run.lock", "torch==2.0.0\n")
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", "all")
    repository.git("gc", "--quiet")
    return repository


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Ticks:
    """The sensor with its cursor. What it asks for is counted, not run."""

    def __init__(self, home: Path, repository: Path) -> None:
        (home / "dagster").mkdir(parents=True)
        self.instance = DagsterInstance.local_temp(str(home / "dagster"))
        self.platform = PlatformResource(repository=str(repository), home=str(home))
        self.cursor: str | None = None

    def tick(self, *, whole: bool = False) -> tuple[float, int]:
        """(milliseconds, run requests). Our own time, or the whole with Dagster's handling of resources."""
        with build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            started = time.perf_counter()
            evaluate = sensor if whole else sensor._raw_fn
            result = evaluate(context, platform=self.platform)
            taken = time.perf_counter() - started
        assert isinstance(result, SensorResult | SkipReason)
        if isinstance(result, SkipReason):
            return taken * 1000, 0
        self.cursor = result.cursor
        return taken * 1000, len(result.run_requests or [])

    def head(self) -> float:
        return timed(lambda: head_of(self.platform.open()))


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def command(path: Path, *words: str) -> float:
    return timed(lambda: subprocess.run(words, cwd=path, check=True, capture_output=True))


def measured(path: Path, models: int, files: int, repeats: int) -> dict[str, float]:
    repository = made(path / "repository", models, files)
    ticks = Ticks(path / "home", repository.path)
    first, asked = ticks.tick()
    assert asked == models, f"{asked} requests for {models} models"
    figures = {"first": first}
    figures["idle"] = statistics.median(ticks.tick()[0] for _ in range(repeats))
    figures["idle, with Dagster"] = statistics.median(ticks.tick(whole=True)[0] for _ in range(repeats))
    figures["HEAD"] = statistics.median(ticks.head() for _ in range(repeats))
    for name, words in {"ls-remote": ("git", "ls-remote", "."), "git status": ("git", "status", "--short")}.items():
        figures[name] = statistics.median(command(repository.path, *words) for _ in range(5))
    figures["dvc status"] = command(repository.path, sys.executable, "-m", "dvc", "status", "--json")
    figures["changed"] = statistics.median(changed(repository, ticks, number) for number in range(min(repeats, models)))
    figures["README"] = statistics.median(readme(repository, ticks, number) for number in range(repeats))
    return figures


def changed(repository: GitWithData, ticks: Ticks, number: int) -> float:
    """One pointer names other rows; milliseconds until exactly one run is asked for."""
    name = f"model-{number:04d}"
    rows = {"train.jsonl": {f"{name} {index}?": "1" for index in range(3)}}
    repository.track({**DATA, **rows})
    pointer = repository.path / "data" / "tiny.dvc"
    write(repository.path / "data" / f"{name}.dvc", pointer.read_text().replace("tiny", name))
    pointer.unlink()
    commit(repository, f"data/{name}.dvc")
    taken, asked = ticks.tick()
    assert asked == 1, f"{asked} requests for one changed pointer"
    return taken


def readme(repository: GitWithData, ticks: Ticks, number: int) -> float:
    write(repository.path / "README.md", str(number))
    commit(repository, "README.md")
    taken, asked = ticks.tick()
    assert asked == 0, f"{asked} requests for a README"
    return taken


def commit(repository: GitWithData, path: str) -> None:
    repository.git("add", path)
    repository.git("commit", "--quiet", "--message", f"{path} changes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for models, files in zip(options.models, options.files, strict=True):
        with tempfile.TemporaryDirectory() as scratch:
            figures = measured(Path(scratch), models, files, options.repeats)
        print(
            f"{models} models, {files} files: {json.dumps({k: round(v, 2) for k, v in figures.items()})} ms", flush=True
        )
    times = figures["dvc status"] / figures["idle"]
    print(f"idle tick: {figures['idle']:.2f} ms, {figures['idle'] / figures['HEAD']:.1f} times reading HEAD; ", end="")
    print(f"`git ls-remote` {figures['ls-remote'] / figures['idle']:.0f} times, `dvc status` {times:.0f} times as long")
    print(f"tick with one changed data file: {figures['changed']:.1f} ms (limit {CHANGED_MS:.0f} ms)")
    good = figures["idle"] <= IDLE_MS and times >= TIMES_DVC and figures["changed"] <= CHANGED_MS
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
