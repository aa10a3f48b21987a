"""One question to a running endpoint: who answers there, by the gateway's own headers."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass

from llmops_core.errors import TransientError

HEADERS = {"model": "x-llmops-model", "version": "x-llmops-version", "weights_digest": "x-llmops-weights-digest"}
LIMIT_SECONDS = 30.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    """Who answered and what; empty texts where a header is missing."""

    model: str
    version: str
    weights_digest: str
    text: str


def ask(url: str, question: str, max_tokens: int = 32) -> Answer:
    """Asks `{url}/v1/chat/completions`. Raises TransientError for anything but an answer."""
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": max_tokens, "temperature": 0}
    request = urllib.request.Request(  # noqa: S310 (our own gateway)
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "x-llmops-traffic": "probe"},
    )
    try:
        with _direct.open(request, timeout=LIMIT_SECONDS) as response:
            text = json.load(response)["choices"][0]["message"]["content"]
            who = {field: response.headers.get(header) or "" for field, header in HEADERS.items()}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise TransientError(f"{url} gives no answer: {error}") from error
    return Answer(text=str(text).strip(), **who)


def status_of(url: str, limit_seconds: float = LIMIT_SECONDS) -> int | None:
    """The HTTP status of a page, None when nothing answers."""
    try:
        with _direct.open(url, timeout=limit_seconds) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
