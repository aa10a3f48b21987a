"""Ask a served model many questions at once, and learn of each its answer or why there is none.

Nothing is retried and nothing is dropped: a refused, broken or late answer is an outcome like any other.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp


@dataclass(frozen=True)
class Answer:
    """`text` is None where the request failed, and `error` then says how. `latency_seconds` counts from the sending."""

    text: str | None
    error: str | None
    latency_seconds: float


def ask_all(
    url: str,
    model: str,
    prompts: Sequence[str],
    concurrency: int,
    timeout_seconds: float,
    on_answer: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """Answers of `url`/v1/chat/completions in the order of `prompts`; at most `concurrency` are under way at a time.

    `on_answer` is told how many are answered so far.
    """
    return asyncio.run(_ask_all(url, model, prompts, concurrency, timeout_seconds, on_answer))


async def _ask_all(
    url: str,
    model: str,
    prompts: Sequence[str],
    concurrency: int,
    timeout_seconds: float,
    on_answer: Callable[[int], None],
) -> list[Answer]:
    answers: dict[int, Answer] = {}
    waiting = iter(enumerate(prompts))
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def worker() -> None:
            for index, prompt in waiting:
                answers[index] = await _ask(session, model, prompt)
                on_answer(len(answers))

        await asyncio.gather(*(worker() for _ in range(concurrency)))
    return [answers[index] for index in range(len(prompts))]


async def _ask(session: aiohttp.ClientSession, model: str, prompt: str) -> Answer:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0}
    started = time.monotonic()
    try:
        async with session.post("/v1/chat/completions", json=body) as response:
            content = await response.read()
            text, error = _read(response.status, content)
    except TimeoutError:
        text, error = None, "timeout"
    except aiohttp.ClientError as failure:
        text, error = None, type(failure).__name__
    return Answer(text, error, time.monotonic() - started)


def _read(status: int, content: bytes) -> tuple[str | None, str | None]:
    """The answer's text, or what is wrong with it."""
    if status != 200:
        return None, f"HTTP {status}"
    try:
        text = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None, "malformed answer"
    return (text, None) if isinstance(text, str) else (None, "malformed answer")
