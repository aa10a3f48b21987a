"""The served model as its users meet it: a real process, real HTTP, real signals."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from llmops_core.errors import EnvironmentLacks, InputError
from recipes.engines import Served, command_line, require_installed, running
from resources.traffic.envoy_config import IDLE_LIMIT
from tests.fakes.ports import free_port


@pytest.fixture(scope="module")
def url(packaged, tmp_path_factory):
    served = Served(packaged, "tiny", free_port(), context_tokens=128, parallel=4)
    with running(served, tmp_path_factory.mktemp("logs") / "serve.log") as address:
        yield address


def ask(url: str, path: str, body: object) -> tuple[int, dict]:
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def chat(text: str, **rest: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], **rest}


def test_both_openai_routes_answer_under_the_alias(url):
    status, answer = ask(url, "/v1/chat/completions", chat("What is the capital of France?"))
    assert (status, answer["model"]) == (200, "tiny")
    assert answer["choices"][0]["message"]["role"] == "assistant"
    status, answer = ask(url, "/v1/completions", {"prompt": "What is"})
    assert (status, answer["model"], answer["object"]) == (200, "tiny", "text_completion")


def test_answers_are_reproducible_where_no_temperature_is_asked_for(url):
    answers = {ask(url, "/v1/completions", {"prompt": "The currency of"})[1]["choices"][0]["text"] for _ in range(5)}
    assert len(answers) == 1


def test_a_request_may_ask_for_another_temperature(url):
    question = {"prompt": "The currency of", "temperature": 2.0}
    assert len({ask(url, "/v1/completions", question)[1]["choices"][0]["text"] for _ in range(5)}) > 1


def test_request_without_max_tokens_ends_at_the_latest_with_its_context(url):
    for text in ("a", "b", "c", "d"):
        _, answer = ask(url, "/v1/completions", {"prompt": text})
        assert answer["usage"]["total_tokens"] <= 128
        assert answer["choices"][0]["finish_reason"] in ("stop", "length")


def test_overlong_prompt_is_refused_and_the_server_goes_on(url):
    for path, body in (("/v1/completions", {"prompt": "zq" * 500}), ("/v1/chat/completions", chat("zq" * 500))):
        status, answer = ask(url, path, body)
        assert status == 400
        assert "exceeds the available context size" in answer["error"]["message"]
    assert ask(url, "/v1/completions", {"prompt": "a", "max_tokens": 1})[0] == 200


@pytest.mark.parametrize("body", ["text", {}, {"messages": "text"}, {"messages": [{"role": "user"}]}])
def test_malformed_request_is_the_clients_error(url, body):
    assert 400 <= ask(url, "/v1/chat/completions", body)[0] < 500


def test_more_connections_than_slots_are_all_answered(url):
    with ThreadPoolExecutor(64) as pool:
        body = chat("What?", max_tokens=3)
        statuses = list(pool.map(lambda _: ask(url, "/v1/chat/completions", body)[0], range(256)))
    assert statuses == [200] * 256


def test_metrics_count_generated_tokens(url):
    with urllib.request.urlopen(url + "/metrics") as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
    assert float(lines["llamacpp:tokens_predicted_total"]) > 0


def test_the_gateway_keeps_connections_longer_than_the_server_does(url):
    """A request sent on a connection that the server is just closing would be a failure that the proxy made itself. The
    server ends a connection after an idle time, which the gateway must stay below, and after a number of requests, of
    which it must say that it does."""
    server = http.client.HTTPConnection(url.removeprefix("http://"))
    answers = [_kept_alive(server) for _ in range(101)]
    limits = [re.fullmatch(r"timeout=(\d+), max=100", answer.getheader("Keep-Alive") or "") for answer in answers[:99]]
    assert all(limit and int(limit[1]) >= 2 * float(IDLE_LIMIT.removesuffix("s")) for limit in limits)
    assert answers[99].getheader("Connection") == "close" and answers[100].status == 200


def _kept_alive(server: http.client.HTTPConnection) -> http.client.HTTPResponse:
    server.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 1}))
    answer = server.getresponse()
    answer.read()
    return answer


def command(packaged: Path, port: int, *more: str) -> list[str]:
    served = Served(packaged, "tiny", port, context_tokens=64, parallel=1)
    return [*command_line(served), *more]


def test_port_in_use_is_said_and_exit_code_is_1(url, packaged):
    done = subprocess.run(command(packaged, int(url.rsplit(":", 1)[1])), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"", "not a GGUF file"), (b"\x80\x04pickle", "not a GGUF file"), (b"cut", "refuses")],
)
def test_unusable_model_file_is_said_and_exit_code_is_1(packaged, tmp_path, content, said):
    if content == b"cut":
        whole = (packaged / "model.gguf").read_bytes()
        content = whole[: len(whole) // 2]
    if content is not None:
        (tmp_path / "model.gguf").write_bytes(content)
    done = subprocess.run(command(tmp_path, free_port()), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_longer_context_than_the_model_has_is_refused_without_hanging_in_the_engine(packaged):
    line = command_line(Served(packaged, "tiny", free_port(), context_tokens=4096, parallel=1))
    for _ in range(3):
        done = subprocess.run(line, capture_output=True, text=True, timeout=30)
        assert (done.returncode, "holds 128 tokens" in done.stderr) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_ends_with_0(packaged, tmp_path, number):
    server = subprocess.Popen(command(packaged, free_port()), stderr=subprocess.PIPE, text=True)
    assert server.stderr
    for line in server.stderr:
        if line.startswith("serving"):
            break
    server.send_signal(number)
    assert server.wait(10) == 0


def test_stopping_answers_what_is_under_way_and_does_not_hang(packaged):
    port = free_port()
    server = subprocess.Popen(command(packaged, port), stderr=subprocess.PIPE, text=True)
    assert server.stderr
    next(line for line in server.stderr if line.startswith("serving"))
    body = {"prompt": "a", "ignore_eos": True, "max_tokens": 100}
    with ThreadPoolExecutor(8) as pool:
        pending = [pool.submit(ask, f"http://127.0.0.1:{port}", "/v1/completions", body) for _ in range(8)]
        while not any(each.done() for each in pending):
            pass
        server.terminate()
        assert server.wait(10) == 0
        assert [each.result()[0] for each in pending] == [200] * 8


def test_server_dies_with_the_process_that_started_it(packaged, tmp_path):
    program = (
        "import sys, os, signal, time; from pathlib import Path; from recipes.engines import *\n"
        f"served = Served(Path({str(packaged)!r}), 'tiny', free_port(), context_tokens=64, parallel=1)\n"
        f"with running(served, Path({str(tmp_path / 'log')!r})) as url: print(url, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    parent.stdout.readline()
    (server,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    server.wait(10)


def test_end_of_standard_input_ends_it_with_0(packaged):
    line = command(packaged, free_port(), "--until-stdin-closes")
    server = subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.communicate(timeout=10)[1].endswith("stopped\n")
    assert server.returncode == 0


def test_failed_start_shows_the_servers_own_words(tmp_path):
    served = Served(tmp_path, "tiny", free_port())
    with pytest.raises(EnvironmentLacks, match="No such file"), running(served, tmp_path / "log"):
        pytest.fail("nothing can be served")


def test_vllm_command_line(tmp_path):
    line = command_line(Served(tmp_path, "big", 8000, "vllm", context_tokens=4096, parallel=32, gpus=4))
    assert line[:3] == ["vllm", "serve", str(tmp_path)]
    options = dict(zip(line[3::2], line[4::2], strict=True))
    expected = {"--served-model-name": "big", "--port": "8000", "--host": "127.0.0.1", "--tensor-parallel-size": "4"}
    assert options.items() >= expected.items()
    assert (options["--max-model-len"], options["--max-num-seqs"]) == ("4096", "32")


def test_large_weights_were_given_up_while_they_were_read(tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as stream:
        stream.truncate(140 * 10**9)  # a hole, which takes no room
    served = {engine: Served(tmp_path, "big", 8000, engine).start_seconds for engine in ("llama.cpp", "vllm")}
    assert served == {"llama.cpp": 60 + 2800, "vllm": 900 + 2800}


def test_missing_engine_package_is_said(tmp_path):
    with pytest.raises(EnvironmentLacks, match="vllm is not installed"):
        require_installed("vllm")


def test_unknown_engine_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"llama\.cpp or vllm"):
        command_line(Served(tmp_path, "big", 8000, "triton"))
