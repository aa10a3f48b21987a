"""Evaluation must count every question once, call nothing correct that is not, and leave no server behind."""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from recipes import evaluate as recipe
from recipes.chat_client import ask_all
from recipes.evaluate import exact_match, main

SERVING = {"engine": "llama.cpp", "context_tokens": 128, "parallel": 4, "timeout_seconds": 20}


def suite(name: str, data: str) -> dict[str, object]:
    return {"name": name, "data": data, "metric": "exact_match", "minimum": 0.5}


def write_rows(file: Path, rows: list[tuple[str, str]]) -> None:
    file.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in rows))


def run_main(tmp_path: Path, weights: Path, suites: list[dict[str, object]], **serving: object) -> int:
    config = {"suites": suites, "max_regression": 0.02, "serving": {**SERVING, **serving}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    places = {"config": tmp_path / "config.json", "data": tmp_path, "weights": weights, "out": tmp_path / "out"}
    return main([word for name, place in places.items() for word in (f"--{name}", str(place))])


def results(tmp_path: Path) -> tuple[dict, list[dict]]:
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    return report, [json.loads(line) for line in lines]


def servers() -> list[psutil.Process]:
    """Those of this process that serve a model; other tests have servers of their own."""
    return [one for one in psutil.Process().children(recursive=True) if "recipes.serve" in " ".join(one.cmdline())]


@pytest.fixture(scope="module")
def learned(packaged, tmp_path_factory) -> dict[str, str]:
    """What the random model really answers, so that a test can expect it."""
    from recipes.engines import Served, running
    from tests.fakes.ports import free_port

    served = Served(packaged, "tiny", free_port(), context_tokens=128, parallel=1)
    prompts = ["What is the capital", "The currency of", "Paris", "1234"]
    with running(served, tmp_path_factory.mktemp("logs") / "log") as url:
        answers = ask_all(url, "tiny", prompts, 1, 20)
    return {prompt: answer.text for prompt, answer in zip(prompts, answers, strict=True) if (answer.text or "").strip()}


VLLM = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
assert "PYTHONPATH" not in os.environ and os.environ["HF_HUB_OFFLINE"] == "1"
assert sys.argv[1] == "serve" and os.path.isfile(os.path.join(sys.argv[2], "config.json"))
options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
assert options["--tensor-parallel-size"] == "2"
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answers({{}})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["model"] == options["--served-model-name"]
        self.answers({{"choices": [{{"message": {{"content": "Paris"}}}}]}})
    def answers(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
HTTPServer((options["--host"], int(options["--port"])), Handler).serve_forever()
"""


def test_vllm_was_looked_for_among_our_packages(tiny_llama, tmp_path, monkeypatch):
    """Its program is of another Python, in whose image ours are guests; it is played here."""
    program = tmp_path / "programs" / "vllm"
    program.parent.mkdir()
    program.write_text(VLLM.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    write_rows(tmp_path / "rows.jsonl", [("The capital of France", "Paris"), ("of Spain", "Madrid")])
    assert run_main(tmp_path, tiny_llama, [suite("new", "rows.jsonl")], engine="vllm", gpus=2) == 0
    assert [line["correct"] for line in results(tmp_path)[1]] == [True, False]


def test_right_and_wrong_answers_are_told_apart(packaged, learned, tmp_path):
    rows = list(learned.items())
    assert len(rows) >= 3
    write_rows(tmp_path / "right.jsonl", rows)
    write_rows(tmp_path / "mixed.jsonl", [rows[0], (rows[1][0], "something else")])
    assert run_main(tmp_path, packaged, [suite("right", "right.jsonl"), suite("mixed", "mixed.jsonl")]) == 0
    report, lines = results(tmp_path)
    right, mixed = report["suites"]
    assert (right["correct"], right["total"], right["value"], right["errors"]) == (len(rows), len(rows), 1.0, 0)
    assert (mixed["correct"], mixed["total"], mixed["value"], mixed["minimum"]) == (1, 2, 0.5, 0.5)
    assert [failure["expected"] for failure in mixed["failures"]] == ["something else"]
    assert [(line["suite"], line["line"]) for line in lines][-2:] == [("mixed", 1), ("mixed", 2)]
    assert [line["correct"] for line in lines] == [True] * len(rows) + [True, False]
    assert 0 < report["latency_seconds"]["p50"] <= report["latency_seconds"]["p99"]
    assert servers() == []


def test_refused_questions_are_errors_and_stay_in_the_total(packaged, learned, tmp_path):
    write_rows(tmp_path / "rows.jsonl", [next(iter(learned.items())), ("zq" * 500, "x")])
    assert run_main(tmp_path, packaged, [suite("new", "rows.jsonl")]) == 0
    report, lines = results(tmp_path)
    (only,) = report["suites"]
    assert (only["correct"], only["errors"], only["total"], only["value"]) == (1, 1, 2, 0.5)
    assert only["errors_by_kind"] == {"HTTP 400": 1}
    assert (lines[1]["answer"], lines[1]["error"], lines[1]["correct"]) == (None, "HTTP 400", False)


def test_suite_without_any_answer_has_no_latency(packaged, tmp_path):
    write_rows(tmp_path / "rows.jsonl", [("zq" * 500, "x")])
    assert run_main(tmp_path, packaged, [suite("new", "rows.jsonl")]) == 0
    assert results(tmp_path)[0]["latency_seconds"] == {"p50": None, "p95": None, "p99": None}


@pytest.mark.parametrize(
    ("rows", "said"),
    [("", "empty"), ("[]\n", "JSON object"), ('{"prompt": "x"}\n', "response"), (None, "no such file")],
)
def test_unusable_rows_are_named_and_nothing_is_written(packaged, tmp_path, capsys, rows, said):
    if rows is not None:
        (tmp_path / "rows.jsonl").write_text(rows)
    assert run_main(tmp_path, packaged, [suite("new", "rows.jsonl")]) == 65
    error = capsys.readouterr().err
    assert "rows.jsonl" in error
    assert said in error
    assert not (tmp_path / "out").exists()


def test_unpackaged_weights_are_named(tiny_llama, tmp_path, capsys):
    write_rows(tmp_path / "rows.jsonl", [("a", "b")])
    assert run_main(tmp_path, tiny_llama, [suite("new", "rows.jsonl")]) == 65
    assert "model.gguf" in capsys.readouterr().err


def test_missing_engine_is_said(packaged, tmp_path, capsys):
    write_rows(tmp_path / "rows.jsonl", [("a", "b")])
    assert run_main(tmp_path, packaged, [suite("new", "rows.jsonl")], engine="vllm") == 69
    assert "vllm is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("broken", [{"suites": []}, {"serving": {"engine": "llama.cpp"}}, {"suites": [{"name": "x"}]}])
def test_broken_configuration_is_named(packaged, tmp_path, capsys, broken):
    config = {"suites": [suite("new", "rows.jsonl")], "serving": SERVING} | broken
    (tmp_path / "config.json").write_text(json.dumps(config))
    places = [word for name in ("data", "weights", "out") for word in (f"--{name}", str(tmp_path / name))]
    assert main(["--config", str(tmp_path / "config.json"), *places]) == 65
    assert next(iter(broken)) in capsys.readouterr().err


def test_crash_while_asking_leaves_no_server_and_no_output(packaged, tmp_path, monkeypatch):
    def crash(*_: object) -> None:
        assert len(servers()) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "ask_all", crash)
    write_rows(tmp_path / "rows.jsonl", [("a", "b")])
    with pytest.raises(KeyboardInterrupt):
        run_main(tmp_path, packaged, [suite("new", "rows.jsonl")])
    assert servers() == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("expected", "answer", "correct"),
    [("Paris", " Paris", True), ("Paris", "paris", False), ("Paris", "", False), ("Paris", None, False)],
)
def test_exact_match(expected, answer, correct):
    assert exact_match(expected, answer) is correct


class Odd(BaseHTTPRequestHandler):
    """Answers with whatever the question says, however odd."""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][0]["content"]
        if question == "slow":
            threading.Event().wait(8)
        if question == "break":
            return
        self.send_response(500 if question == "500" else 200)
        self.end_headers()
        self.wfile.write(question.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def odd_url():
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_client_tells_every_kind_of_failure_and_keeps_the_order(odd_url):
    good = json.dumps({"choices": [{"message": {"content": "Paris"}}]})
    null = json.dumps({"choices": [{"message": {"content": None}}]})
    prompts = ["slow", good, "500", "not json", '{"choices": []}', null, "break", good]
    answers = ask_all(odd_url, "tiny", prompts, 8, 5)
    malformed = "malformed answer"
    expected = ["timeout", None, "HTTP 500", malformed, malformed, malformed, "ServerDisconnectedError", None]
    assert [answer.error for answer in answers] == expected
    assert [answer.text for answer in answers] == [None, "Paris", *[None] * 5, "Paris"]
