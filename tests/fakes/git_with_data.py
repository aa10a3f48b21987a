"""A Git repository with one tiny model, the project's recipes, and data that DVC tracks, written as DVC writes it."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
AUTHOR = "ada@example.com"
_GIT = {
    **{"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
    **{
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": AUTHOR,
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": AUTHOR,
    },
}

MODEL: dict[str, Any] = {
    **{"name": "tiny", "version": "1.0.0", "description": "Counts.", "owners": ["team:tiny"], "architecture": "llama"},
    "data_classification": "public",
    "source": {
        "type": "local",
        "pretrain": {
            **{"data": "pretrain.jsonl", "seed": 1, "steps": 2, "learning_rate": 0.003, "warmup_steps": 1},
            **{"tokens_per_step": 1024, "row_tokens": 64, "vocabulary_size": 1024, "hidden_size": 128},
            **{"feed_forward_size": 256, "layers": 1, "heads": 4, "context_tokens": 128},
        },
    },
    "training": {
        **{"method": "lora", "train": "train.jsonl", "seed": 1, "steps": 2, "learning_rate": 0.004, "warmup_steps": 1},
        **{"tokens_per_step": 1024, "row_tokens": 64, "lora": {"rank": 4, "alpha": 8}},
    },
    "data": {"path": "data/tiny", "pii": "refuse"},
    "evaluation": {
        "suites": [{"name": "sums", "data": "test.jsonl", "metric": "exact_match", "minimum": 0.9}],
        "max_regression": 0.05,
    },
    "resources": {"gpu_count": 0, "memory_gb": 1, "cpu": 1},
    "serving": {"engine": "llama.cpp", "quantization": "q8_0", "context_tokens": 128, "parallel": 4},
}

# The project's canary with fewer, quicker looks: the same rules, in fractions of a second.
CANARY = {
    **{"steps_percent": [50], "alpha": 0.05, "immediate_error_rate": 0.2, "immediate_slow_rate": 0.2},
    **{"min_requests_per_step": 10, "max_seconds_per_step": 60, "tick_seconds": 0.03},
    "synthetic_requests_per_second": 200,
}


def rows(kind: str, count: int) -> dict[str, str]:
    """{question: answer}, of no other kind's questions."""
    return {f"{kind}: what is {number} and {number}?": str(number + number) for number in range(count)}


DATA = {"train.jsonl": rows("learn", 20), "pretrain.jsonl": rows("read", 20), "test.jsonl": rows("tell", 60)}
ANSWERS = {question: answer for file in DATA.values() for question, answer in file.items()}


class GitWithData:
    """Keys of `files` are paths below the repository."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, env={**os.environ, **_GIT}, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def commit(self, files: dict[str, str], message: str = "change") -> str:
        for name, content in files.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.head

    def commit_model(self, section: str = "", message: str = "change", **changes: Any) -> str:
        """Changes fields of model.yaml, of one section or of the top."""
        path = "models/tiny/model.yaml"
        document = yaml.safe_load((self.path / path).read_text())
        (document[section] if section else document).update(changes)
        return self.commit({path: yaml.safe_dump(document)}, message)

    def commit_settings(self, section: str, **changes: Any) -> str:
        path = "config/local.yaml"
        document = yaml.safe_load((self.path / path).read_text())
        document[section].update(changes)
        return self.commit({path: yaml.safe_dump(document)}, f"{section} changed")

    def track(self, data: dict[str, dict[str, str]]) -> None:
        """What `dvc add data/tiny` leaves behind: objects in the cache, and a pointer to be committed."""
        listing = [{"md5": self._keep_rows(answers), "relpath": name} for name, answers in sorted(data.items())]
        md5 = self._keep(json.dumps(listing).encode(), ".dir")
        self._keep(json.dumps(listing).encode(), "")
        pointer = {"outs": [{"md5": md5, "size": 1, "nfiles": len(listing), "hash": "md5", "path": "tiny"}]}
        (self.path / "data").mkdir(exist_ok=True)
        (self.path / "data" / "tiny.dvc").write_text(yaml.safe_dump(pointer))

    def track_apart(self, data: dict[str, dict[str, str]]) -> None:
        """What `dvc add data/tiny/*` leaves behind: every file is an output of its own."""
        (self.path / "data" / "tiny.dvc").unlink(missing_ok=True)
        (self.path / "data" / "tiny").mkdir(exist_ok=True)
        for name, answers in data.items():
            pointer = {"outs": [{"md5": self._keep_rows(answers), "size": 1, "hash": "md5", "path": name}]}
            (self.path / "data" / "tiny" / f"{name}.dvc").write_text(yaml.safe_dump(pointer))

    def cached(self, md5: str) -> Path:
        return self.path / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]

    def _keep_rows(self, answers: dict[str, str]) -> str:
        text = "".join(json.dumps({"prompt": q, "response": a}) + "\n" for q, a in answers.items())
        return self._keep(text.encode(), "")

    def _keep(self, content: bytes, suffix: str) -> str:
        md5 = hashlib.md5(content).hexdigest() + suffix
        place = self.cached(md5)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return md5


def made_repository(path: Path) -> GitWithData:
    repository = GitWithData(path)
    path.mkdir(parents=True)
    repository.git("init", "--quiet", "--template=", "--initial-branch", "main")
    shutil.copytree(ROOT / "recipes", path / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config", path / "config")
    settings = yaml.safe_load((path / "config" / "local.yaml").read_text())
    settings["canary"].update(CANARY)
    settings["staging_tests"].update(concurrency=[1, 4], requests=20)
    (path / "config" / "local.yaml").write_text(yaml.safe_dump(settings))
    repository.track(DATA)
    files = {
        ".gitignore": "__pycache__/\n",
        ".dvc/.gitignore": "/cache\n/tmp\n",
        ".dvc/config": "[core]\n    analytics = false\n",
        "requirements/run.lock": "torch==2.0.0\n",
        "models/tiny/model.yaml": yaml.safe_dump(MODEL),
    }
    repository.commit(files, "the first model")
    return repository
