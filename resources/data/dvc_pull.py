"""A program that brings objects from a DVC remote into the local DVC cache, or looks whether they are there.

DVC runs in this process of its own: importing it takes about half a second, and its configuration, credentials and
logging stay here. It reads `{"repository": …, "objects": [md5, …], "remote": null, "look_only": false,
"allowed_endpoints": null, "answer_seconds": 10}` from stdin and prints `{"cache": <folder of the objects>}`. What is
still not in that folder afterwards is on no remote. With `look_only` it brings nothing and prints
`{"missing": [md5, …]}`, which no remote has. With a list of `allowed_endpoints` the repository is somebody else's: its
remote may lead outwards or to one of these only, also after a redirection and when its name leads elsewhere meanwhile;
else it prints `{"refused": [a problem's fields, …]}`. A store that is neither AWS nor one of these is asked without
credentials. Exit status 0 done, MEND: the configuration or credentials must be mended; any
other, a crash's too: the remote could not be reached. The last line of stderr says why.

A remote has `answer_seconds` to answer about one object, before anything else: libraries try a host that accepts
connections and says nothing for ten minutes. Bytes then have no limit in all, since data may be large, but a pause
between two of them has one.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from threading import Timer
from typing import Any

from llmops_core.errors import InputError, LlmopsError, Problem
from llmops_core.uris import addressing_style, parse_endpoint
from resources.outside import check_destination, hold_outside

MEND, SILENT = 3, 4
PAUSE_SECONDS = 30
CONFIG = ".dvc/config"


def main() -> int:
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        json.dump(_answer(Repo, json.load(sys.stdin)), sys.stdout)
    except InputError as error:
        json.dump({"refused": [asdict(problem) for problem in error.problems]}, sys.stdout)
    except LlmopsError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except (DvcException, PermissionError, NoCredentialsError, PartialCredentialsError) as error:
        sys.stderr.write(f"\n{type(error).__name__}: {' '.join(str(error).split())}\n")
        return MEND
    return 0


def _answer(open_repository: Any, request: dict[str, Any]) -> dict[str, Any]:
    from dvc_data.hashfile.hash_info import HashInfo

    repo = open_repository(request["repository"])
    name, wanted, allowed = request["remote"], request["objects"], request["allowed_endpoints"]
    settings = repo.config["remote"].get(name or repo.config["core"].get("remote"), {})
    with _answering(request["answer_seconds"]):
        if allowed is not None:
            _check(settings, name, allowed)
        if str(settings.get("url", "")).startswith(("s3://", "http://", "https://")):
            settings |= {"connect_timeout": PAUSE_SECONDS, "read_timeout": PAUSE_SECONDS}
        place = addressed(repo.cloud.get_remote_odb(name))
        if allowed is not None and place.fs.protocol in ("http", "https"):
            place.fs.fs.client_kwargs["trace_configs"] = [_no_other_host(name)]
        lacking = wanted if request["look_only"] else [each for each in wanted if not repo.cache.local.exists(each)]
        if lacking:
            _ask_about(place, lacking[0])
    if not request["look_only"]:
        repo.cloud.pull([HashInfo("md5", each) for each in wanted], remote=name, odb=place)
        return {"cache": repo.cache.local.path}
    found = set(place.oids_exist(wanted))
    missing = [each for each in wanted if each not in found]
    if missing:
        _ask_about(place, missing[0])
    return {"missing": missing}


@contextmanager
def _answering(limit_seconds: float) -> Iterator[None]:
    """Ends the program when the remote has not answered in time, whatever a library waits for."""

    def give_up() -> None:
        sys.stderr.write(f"\nit did not answer within {limit_seconds:.0f} s\n")
        sys.stderr.flush()
        os._exit(SILENT)

    watch = Timer(limit_seconds, give_up)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def addressed(place: Any) -> Any:
    """The same remote, which names its bucket as its store knows it. DVC's settings have no word for that."""
    if place.fs.protocol == "s3":
        given = place.fs.fs_args
        style = {"addressing_style": addressing_style(given.get("client_kwargs", {}).get("endpoint_url"))}
        config = given.setdefault("config_kwargs", {})
        config["s3"] = style | config.get("s3", {})  # what a person wrote into AWS's own file goes first
    return place


def _ask_about(place: Any, md5: str) -> None:
    """Raises what the host answered, or that it did not: DVC takes every failure over HTTP for a missing file."""
    if place.fs.protocol in ("http", "https"):
        place.fs.fs.exists(place.oid_to_path(md5), strict=True)
    else:
        place.exists(md5)


def _check(settings: dict[str, Any], name: str | None, allowed: list[str]) -> None:
    """The addresses of the remote, where their names lead now and when they are connected to. What is signed with the
    platform's keys goes to AWS and to what its settings list, and to nobody else's store."""
    for field in ("url", "endpointurl"):
        address = str(settings.get(field, ""))
        if address.startswith(("http://", "https://")):
            if check_destination(address, allowed, CONFIG, f"{_named(name)}: {field}"):
                continue
            hold_outside(parse_endpoint(address).host)
            if field == "endpointurl":
                settings["allow_anonymous_login"] = True


def _no_other_host(name: str | None) -> Any:
    """What aiohttp asks before it follows a redirection."""
    from aiohttp import TraceConfig

    async def refuse(_session: Any, _context: Any, given: Any) -> None:
        target = given.url.join(type(given.url)(given.response.headers.get("Location", "")))
        if target.origin() != given.url.origin():
            expected, message = "the host that has the objects", "the remote redirects to another host"
            raise InputError(Problem(CONFIG, f"{_named(name)}: url", str(target.origin()), expected, message))

    tracing = TraceConfig()
    tracing.on_request_redirect.append(refuse)
    return tracing


def _named(name: str | None) -> str:
    return f"remote {name}" if name else "the default remote"


if __name__ == "__main__":
    os.environ["DVC_NO_ANALYTICS"] = "1"
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")  # s3fs tries each of them five times more
    sys.exit(main())
