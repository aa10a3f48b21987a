"""Serve one GGUF file with llama.cpp's own server, from the xllamacpp wheel, until SIGTERM.

    python -m recipes.serve --model model.gguf --host 127.0.0.1 --port 8610 --alias NAME --context-tokens 128 \
        --parallel 16 --threads 1

Offers the OpenAI routes, /health and /metrics, and batches continuously: every slot's next token comes out of one
pass over the weights, so that many requests cost little more than one. llama.cpp divides one context among the slots,
therefore it gets context_tokens × parallel. One thread is the default because a small model spends more time
waiting for a second thread than computing in it.

Answers are reproducible unless a request asks otherwise: temperature 0. A request without max_tokens ends at the
model's end token, at the latest where its context is full.
"""

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

GGUF_MAGIC = b"GGUF"
# A kept-alive connection holds one of llama.cpp's HTTP threads until it has been idle for 5 s: with its default, about
# one thread a slot, a gateway's idle connections kept new requests waiting for up to 7 s. A waiting thread costs 20 kB.
HTTP_THREADS = 256
DRAIN_SECONDS = 5
UNDER_WAY = ("llamacpp:requests_processing ", "llamacpp:requests_deferred ")  # gauges of /metrics
WARNINGS = 2  # llama.cpp's level 3 writes seven lines for every request


class CannotServe(Exception):
    """Says in one sentence why the server does not start."""


def main(arguments: list[str] | None = None) -> NoReturn:
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.until_stdin_closes:
        threading.Thread(target=_wait_for_end_of_input, args=(stop,), daemon=True).start()
    try:
        _refuse_unreadable(options.model)
        _refuse_taken(options.host, options.port)
        server = _started(options)
        _refuse_shorter_context(server.listening_address, options.context_tokens)
    except CannotServe as error:
        print(f"cannot serve: {error}", file=sys.stderr, flush=True)
        _end(1)
    print(f"serving {options.alias} on {server.listening_address}", file=sys.stderr, flush=True)
    stop.wait()
    _drain(server.listening_address)
    print("stopped", file=sys.stderr, flush=True)
    _end(0)


def _end(code: int) -> NoReturn:
    """Not by way of llama.cpp's own end: that waits for clients whose requests it no longer answers, for minutes, and
    for ever when it is ended while it starts."""
    os._exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recipes.serve", description="Serve a GGUF model on the OpenAI routes.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias", required=True, help="the name answers carry as `model`")
    parser.add_argument("--context-tokens", type=_positive, default=2048, help="for each request, question and answer")
    parser.add_argument("--parallel", type=_positive, default=8, help="requests answered at the same time")
    parser.add_argument("--threads", type=_positive, default=1)
    parser.add_argument("--temperature", type=float, default=0.0, help="for requests that name none")
    parser.add_argument("--exact", action="store_true", help="float32 attention, to compare with another program")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end together with the parent process")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def _wait_for_end_of_input(stop: threading.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock, held by a daemon thread, makes the interpreter abort at its end
        pass
    stop.set()


def _refuse_unreadable(model: Path) -> None:
    try:
        with model.open("rb") as stream:
            magic = stream.read(len(GGUF_MAGIC))
    except OSError as error:
        raise CannotServe(f"{model}: {error.strerror}; expected a GGUF file (made by recipes.package)") from error
    if magic != GGUF_MAGIC:
        raise CannotServe(f"{model} is not a GGUF file: it begins with {magic!r}; package the weights again")


def _refuse_taken(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise CannotServe(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; choose another port"
        ) from error


def _started(options: argparse.Namespace) -> Any:
    llama: Any = import_module("xllamacpp")  # compiled, without type stubs
    params = llama.CommonParams()
    params.model.path = str(options.model)
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_ctx = options.context_tokens * options.parallel
    params.n_parallel = options.parallel
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_threads_http = HTTP_THREADS
    params.sampling.temp = options.temperature
    params.cont_batching = True
    params.endpoint_metrics = True
    params.ui = False
    params.endpoint_slots = False  # would show everyone the prompts under way
    params.cors_origins = ""  # no page in a browser may ask; clients that are no browsers do not care
    params.verbosity = WARNINGS
    params.fit_params = False  # sizes come from the command line, never from guesses about this machine's memory
    params.cache_ram_mib = 0  # idle prompts would otherwise be kept in up to 8 GiB
    params.check_tensors = True  # weights that are not finite numbers are refused
    if options.exact:
        params.cache_type_k = params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    try:
        return llama.Server(params)
    except RuntimeError as error:
        raise CannotServe(f"llama.cpp refuses {options.model}; its own lines above say why ({error})") from error


def _refuse_shorter_context(url: str, context_tokens: int) -> None:
    """llama.cpp silently caps a slot at the context the model was trained with."""
    with urllib.request.urlopen(url + "/v1/models", timeout=30) as answer:  # noqa: S310 - our own server
        available = json.load(answer)["data"][0]["meta"]["n_ctx"]
    if available < context_tokens:
        raise CannotServe(
            f"the model holds {available} tokens of context; --context-tokens {context_tokens} is too many"
        )


def _drain(url: str) -> None:
    """Let the requests under way be answered, for at most DRAIN_SECONDS."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url + "/metrics", timeout=DRAIN_SECONDS) as answer:  # noqa: S310 - our own server
                lines = answer.read().decode().splitlines()
        except OSError:
            return  # it no longer answers, so there is nothing to wait for
        counts = [float(line.split()[1]) for line in lines if line.startswith(UNDER_WAY)]
        if not any(counts):
            return
        time.sleep(0.05)


if __name__ == "__main__":
    main()
