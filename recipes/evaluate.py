"""Ask the packaged model every question of every suite, through the server that will serve it.

    python -m recipes.evaluate --config config.json --data FOLDER --weights FOLDER --out FOLDER

config.json is model.yaml's `evaluation` mapping with `serving` beside it: {"suites": [{"name", "data", "metric",
"minimum"}], "max_regression", "serving": {"engine", "context_tokens", "parallel", "timeout_seconds", "gpus"}}. What is
judged is the packaged artefact and not the weights it was made from, because that is what production will run.

--out receives predictions.jsonl, one line for each question, and report.json. Nothing is judged here: `minimum` is
handed on. A question without an answer (an HTTP error, a timeout) is counted as an error and never as correct, so
`value` is correct / total with the errors in the total.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from llmops_core.errors import InputError, LlmopsError, Problem
from llmops_core.evaluation_report import exact_match, row_id
from llmops_core.exit_codes import exit_code_of
from recipes.chat_client import Answer, ask_all
from recipes.configuration import read_configuration
from recipes.engines import Served, free_port, running
from recipes.progress import open_progress
from recipes.publishing import publishing
from recipes.rows import Question, read_questions

SHOWN_FAILURES = 10
SHOWN_KEYS = ("line", "prompt", "expected", "answer", "error")
ALIAS = "candidate"


class Suite(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    data: str
    metric: Literal["exact_match"]
    minimum: float


class Serving(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    engine: str
    context_tokens: int = Field(ge=1)
    parallel: int = Field(ge=1)
    timeout_seconds: float = Field(gt=0)
    gpus: int = Field(default=1, ge=1)


class Evaluation(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    suites: tuple[Suite, ...] = Field(min_length=1)
    serving: Serving


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="recipes.evaluate", description="Measure a packaged model.")
    for name in ("config", "data", "weights", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        config = read_configuration(options.config, Evaluation)
        report = evaluate(config, options.data, options.weights, options.out)
    except LlmopsError as error:
        print(f"evaluation failed: {error}", file=sys.stderr)
        return exit_code_of(error)
    for suite in report["suites"]:
        print(f"{suite['name']}: {suite['correct']}/{suite['total']}, {suite['errors']} errors", file=sys.stderr)
    return 0


def evaluate(config: Evaluation, data: Path, weights: Path, out: Path) -> dict[str, Any]:
    """Measure, publish `out`, return the report. Raises InputError for rows, EnvironmentLacks for a failing server."""
    started = time.monotonic()
    questions = {suite.name: read_questions(data / suite.data) for suite in config.suites}
    with publishing(out) as folder:
        answers = _answers(config.serving, weights, [each for rows in questions.values() for each in rows])
        suites, lines, first = [], [], 0
        for suite in config.suites:
            rows = questions[suite.name]
            given = answers[first : first + len(rows)]
            first += len(rows)
            predictions = [
                _prediction(suite.name, *each) for each in zip(range(1, len(rows) + 1), rows, given, strict=True)
            ]
            suites.append(_summary(suite, predictions))
            lines += predictions
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / "predictions.jsonl").write_text(text, encoding="utf-8")
        report = {
            "suites": suites,
            "engine": config.serving.engine,
            "latency_seconds": latency_quantiles(lines),
            "seconds": round(time.monotonic() - started, 3),
        }
        (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def _answers(serving: Serving, weights: Path, questions: list[Question]) -> list[Answer]:
    if serving.engine == "llama.cpp" and not (weights / "model.gguf").is_file():
        problem = Problem(str(weights), "--weights", "no model.gguf", "packaged weights", "run recipes.package first")
        raise InputError(problem)
    port = free_port()
    size = (serving.context_tokens, serving.parallel)
    served = Served(weights, ALIAS, port, serving.engine, *size, gpus=serving.gpus)
    prompts = [question.prompt for question in questions]
    with TemporaryDirectory() as logs, running(served, Path(logs) / "serve.log") as url, open_progress() as progress:
        return ask_all(
            url,
            ALIAS,
            prompts,
            serving.parallel,
            serving.timeout_seconds,
            lambda done: progress.report(done, len(prompts)),
        )


def _prediction(suite: str, line: int, question: Question, answer: Answer) -> dict[str, Any]:
    """One line of predictions.jsonl. `row` names the question by its content, the same for every model that is asked;
    `line` counts from 1, as error messages about rows do."""
    return {
        "suite": suite,
        "row": row_id(question.prompt, question.response),
        "line": line,
        "prompt": question.prompt,
        "expected": question.response,
        "answer": answer.text,
        "error": answer.error,
        "correct": exact_match(question.response, answer.text),
        "latency_seconds": round(answer.latency_seconds, 6),
    }


def _summary(suite: Suite, predictions: list[dict[str, Any]]) -> dict[str, Any]:
    correct = sum(line["correct"] for line in predictions)
    failures = [line for line in predictions if not line["correct"]]
    kinds = Counter(line["error"] for line in failures if line["error"])
    return {
        "name": suite.name,
        "data": suite.data,
        "metric": suite.metric,
        "correct": correct,
        "total": len(predictions),
        "errors": kinds.total(),
        "errors_by_kind": dict(kinds.most_common()),
        "value": correct / len(predictions),
        "minimum": suite.minimum,
        "latency_seconds": latency_quantiles(predictions),
        "failures": [{key: line[key] for key in SHOWN_KEYS} for line in failures[:SHOWN_FAILURES]],
    }


def latency_quantiles(predictions: list[dict[str, Any]]) -> dict[str, float | None]:
    """p50, p95 and p99 of the answered questions; None where none was answered."""
    answered = [line["latency_seconds"] for line in predictions if line["error"] is None]
    names = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    if not answered:
        return dict.fromkeys(names)
    return {name: round(float(np.quantile(answered, share)), 6) for name, share in names.items()}


if __name__ == "__main__":
    sys.exit(main())
