"""Examining an environment end to end: everything that a release would need, before a release needs it.

Each part is asked for itself and answers in a sentence; a part that fails keeps no other from being asked. What the
settings do not name is not needed, and said to be so. What only pods of the cluster reach is unknown to whoever asks
from outside.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from llmops_assets.operations.approving import trusted_roles, trusted_signers
from llmops_assets.operations.doctor_cluster import examine_cluster
from llmops_assets.operations.doctor_inside import hidden_from
from llmops_assets.operations.doctor_registry import examine_registry
from llmops_assets.operations.identity import sign_version
from llmops_core import lifecycle
from llmops_core.allowed_signers import identities_of
from llmops_core.approval import APPROVAL_NAMESPACE
from llmops_core.doctor import Diagnosis, Health, ask_from_inside, judge_clock, judge_disk, judge_refusals
from llmops_core.errors import LlmopsError, TransientError
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.platform_settings import Bucket, Postgres
from llmops_core.uris import parse_s3
from resources.data.dvc_remotes import DvcRemotes
from resources.git.git_program import GitProgram
from resources.git.ruling_files import FETCH_SECONDS, Followed, ruling_files
from resources.home import Home
from resources.host.machine import free_bytes, is_free, lacking_programs, may_write
from resources.host.platform_start import parts
from resources.ledger.database_probe import try_database
from resources.ledger.postgres import database_url
from resources.storage.bucket_probe import lifecycle_rules, try_bucket
from resources.wiring import Platform, build_platform

PROGRAMS = ("git", "ssh-keygen")
ORIGIN_MEND = "see its address, the key or token for it, and known hosts"

Examined = Iterator[Diagnosis]


def examine(home: Home) -> Examined:
    """One diagnosis for each part, as each is known."""
    file = f"config/{home.environment}.yaml"
    if unread := _why_unread(home):
        yield Diagnosis("origin", Health.FAILED, unread, ORIGIN_MEND)
        yield Diagnosis("settings", Health.UNKNOWN, f"{file} is in that repository", "see origin above")
        yield from _machine(home)
        return
    try:
        platform = build_platform(home, newest_only=True)
    except LlmopsError as error:
        yield Diagnosis("settings", Health.FAILED, str(error), f"mend {file}: llmops validate")
        yield from _machine(home)
        return
    yield Diagnosis("settings", Health.OK, f"{file} is valid")
    hidden = hidden_from(platform)
    for name, part in PARTS.items():
        if name in hidden:
            yield ask_from_inside(name, hidden[name])
        else:
            yield from asked(name, lambda part=part: part(platform))
    yield from _machine(home)
    yield from asked("ports", lambda: _ports(platform))
    yield from examine_cluster(platform.settings, hidden)


def _why_unread(home: Home) -> str:
    """Why a repository that was never fetched cannot be; empty where it can. The platform would wait for it."""
    ruling = ruling_files(home)
    if not isinstance(ruling, Followed) or ruling.mirror.clone.exists():
        return ""
    try:
        ruling.mirror.younger_than(0, FETCH_SECONDS)
    except LlmopsError as error:
        return str(error)
    return ""


def asked(name: str, part: Callable[[], Examined], mend: str = "") -> Examined:
    """What the part says; where it could not be asked, why."""
    try:
        yield from part()
    except TransientError as error:
        yield Diagnosis(name, Health.FAILED, str(error), mend or "see whether it runs, and can be reached from here")
    except LlmopsError as error:
        yield Diagnosis(name, Health.FAILED, str(error), mend or "see the message")


def _repository(platform: Platform) -> Examined:
    if platform.home.origin is not None:
        yield from asked("origin", lambda: _origin(platform), ORIGIN_MEND)
    head = platform.source.head(None if platform.branch == "HEAD" else platform.branch)
    yield Diagnosis("repository", Health.OK, f"{platform.branch} is at {head[:12]}")
    for watched in platform.settings.repositories:
        view = platform.at(watched.name)
        look = ("ls-remote", "--exit-code", "--heads", watched.url, f"refs/heads/{view.branch}")
        name = f"repository {watched.name}"
        yield from asked(name, lambda watched=watched, look=look, name=name: _remote(GitProgram(watched), look, name))


def _origin(platform: Platform) -> Examined:
    """Fetched as at each tick; and pushed to in a rehearsal, where rows that arrive are committed."""
    mirror, branch = platform.at("").mirror, platform.branch
    mirror.younger_than(0, FETCH_SECONDS)
    rights = "may be fetched"
    if platform.settings.arrivals:
        mirror.push(platform.home.repository, f"refs/heads/{branch}:refs/heads/arrivals/doctor", "--dry-run")
        rights = "may be fetched and pushed to"
    yield Diagnosis("origin", Health.OK, f"{platform.ruling.place} {rights}")


def _remote(git: GitProgram, look: tuple[str, ...], name: str) -> Examined:
    git.run(*look)
    yield Diagnosis(name, Health.OK, f"{look[-2]} has {look[-1].removeprefix('refs/heads/')}")


def _approvers(platform: Platform) -> Examined:
    """Whether anybody may approve: a release would wait for them for ever, after all its work."""
    named = platform.settings.approvals
    if named.sign_locally:
        yield Diagnosis("approvers", Health.OK, "this machine signs for itself")
        return
    roles = trusted_roles(platform)
    signers = identities_of(trusted_signers(platform), APPROVAL_NAMESPACE)
    held = {role: sorted(who for who in signers if role in roles.get(who, ())) for role in named.required}
    if lacking := [role for role, people in held.items() if not people]:
        found = f"nobody who holds a key may approve as {' or '.join(lacking)}: every release would wait there"
        mend = f"give somebody the role in {named.approvers} and a line in {named.signers}, and commit: docs/release.md"
        yield Diagnosis("approvers", Health.FAILED, found, mend)
    else:
        told = "; ".join(f"{role}: {', '.join(people)}" for role, people in held.items())
        yield Diagnosis("approvers", Health.OK, told or "no role is demanded")


def _data(platform: Platform) -> Examined:
    bucket, remotes = platform.settings.platform.dvc_remote, DvcRemotes(platform.checkout)
    if bucket is not None:
        yield from _bucket("dvc remote", "platform.dvc_remote", bucket, platform)
        yield from asked("dvc settings", lambda: _dvc_settings(remotes, bucket))
    elif not (name := remotes.default()):
        mend = "dvc remote add --default, before others need the data"
        if platform.home.origin is None:
            found = "none: data is only in the cache of this machine"
            yield Diagnosis("dvc remote", Health.NOT_NEEDED, found, mend)
        else:
            yield Diagnosis("dvc remote", Health.FAILED, "none, and pods share no cache: no model has its data", mend)
    elif trouble := remotes.trouble():
        yield Diagnosis("dvc remote", Health.FAILED, f"{name}: {trouble}", "mend .dvc/config or its credentials")
    else:
        yield Diagnosis("dvc remote", Health.OK, f"{name} answers")


def _dvc_settings(remotes: DvcRemotes, bucket: Bucket) -> Examined:
    """DVC reads its own settings, in the branch, and none of the platform's: both have to name the same bucket."""
    name = remotes.default()
    url = remotes.address(name).rstrip("/") if name else ""
    if url != bucket.uri.rstrip("/"):
        where = f"leads to {url or 'nowhere'}" if name else "is none"
        found = f"the default remote of .dvc/config {where}, and platform.dvc_remote is {bucket.uri}"
        mend = f"dvc remote add --force --default store {bucket.uri}; commit .dvc/config, and push"
        yield Diagnosis("dvc settings", Health.FAILED, found, mend)
    elif trouble := remotes.trouble():
        yield Diagnosis("dvc settings", Health.FAILED, f"{name}: {trouble}", "mend .dvc/config or its credentials")
    else:
        yield Diagnosis("dvc settings", Health.OK, f"{name} leads to {bucket.uri}, and DVC reads it")


def _artifacts(platform: Platform) -> Examined:
    yield from _bucket_or_folder("artifacts", "platform.artifacts", platform.settings.platform.artifacts, platform)


def _feedback(platform: Platform) -> Examined:
    yield from _bucket_or_folder("feedback", "platform.feedback", platform.settings.platform.feedback, platform)


def _signing(platform: Platform) -> Examined:
    """Signs something that is kept nowhere: the key may be unreadable, or one that the file does not know."""
    named = platform.settings.platform.signing
    if named is None:
        yield Diagnosis("signing", Health.OK, "a key of this machine's own, made on first use")
        return
    sign_version(platform, b"llmops doctor")
    yield Diagnosis("signing", Health.OK, f"{named.key} signs, and {named.signers} knows it")


def _job_store(platform: Platform) -> Examined:
    jobs = platform.settings.jobs
    if isinstance(jobs, ClusterJobsPlace):
        yield from _bucket("job store", "jobs.store", jobs.store, platform)
        yield _lifecycle(jobs, platform)


def _lifecycle(jobs: ClusterJobsPlace, platform: Platform) -> Diagnosis:
    place, prefix = platform.named_place("jobs.store", jobs.store), parse_s3(jobs.store.uri).prefix
    try:
        rules = lifecycle_rules(place)
    except LlmopsError as error:
        return Diagnosis(lifecycle.NAME, Health.UNKNOWN, str(error), "ask as somebody who may read the bucket's rules")
    return lifecycle.judge_lifecycle(f"{prefix}/" if prefix else "", rules, jobs.deadline_seconds)


def _bucket_or_folder(name: str, field: str, bucket: Bucket | None, platform: Platform) -> Examined:
    if bucket is not None:
        yield from _bucket(name, field, bucket, platform)
        return
    place = platform.home.root / name
    if may_write(place):
        yield Diagnosis(name, Health.OK, f"the folder {place}")
    else:
        yield Diagnosis(
            name, Health.FAILED, f"{place} cannot be written", "let this user write there, or set LLMOPS_HOME"
        )


def _bucket(name: str, field: str, bucket: Bucket, platform: Platform) -> Examined:
    tried = try_bucket(platform.named_place(field, bucket))
    yield judge_refusals(name, bucket.uri, tried.refused, tried.answered)
    if tried.skew_seconds is not None:
        yield judge_clock(f"clock against {name}", tried.skew_seconds)


def _ledger(platform: Platform) -> Examined:
    yield from _database("ledger", platform.settings.platform.ledger, platform)


def _dagster(platform: Platform) -> Examined:
    yield from _database("dagster storage", platform.settings.platform.dagster, platform)


def _database(name: str, database: Postgres | None, platform: Platform) -> Examined:
    if database is None:
        place = platform.home.root
        verdict = Health.OK if may_write(place) else Health.FAILED
        mend = "" if verdict is Health.OK else "let this user write there, or set LLMOPS_HOME"
        yield Diagnosis(name, verdict, f"SQLite in {place}", mend)
        return
    version = try_database(database_url(database, os.environ))
    yield Diagnosis(
        name, Health.OK, f"PostgreSQL {version} at {database.host}, tables may be made in {database.database}"
    )


def _machine(home: Home) -> Examined:
    lacking = lacking_programs(*PROGRAMS)
    if lacking:
        yield Diagnosis("programs", Health.FAILED, f"not installed: {', '.join(lacking)}", "install them")
    else:
        yield Diagnosis("programs", Health.OK, ", ".join(PROGRAMS))
    yield judge_disk(str(home.root), free_bytes(home.root))


def _ports(platform: Platform) -> Examined:
    if platform.settings.serving.kind != "local":
        yield Diagnosis("ports", Health.NOT_NEEDED, "nothing is served on this machine")
        return
    known = parts(platform)
    taken = [f"{part.port} ({part.name})" for part in known if not is_free(part.port) and not part.answers()]
    if taken:
        mend = "end the program that holds them, or choose others with LLMOPS_PORT_BASE"
        yield Diagnosis("ports", Health.FAILED, f"held by another program: {', '.join(taken)}", mend)
    else:
        running = sum(part.answers() for part in known)
        found = f"from {platform.home.port_base}: free, or ours ({running} of {len(known)} parts answer)"
        yield Diagnosis("ports", Health.OK, found)


PARTS: dict[str, Callable[[Platform], Examined]] = {
    "repository": _repository,
    "approvers": _approvers,
    "dvc remote": _data,
    "artifacts": _artifacts,
    "feedback": _feedback,
    "signing": _signing,
    "job store": _job_store,
    "ledger": _ledger,
    "dagster storage": _dagster,
    "mlflow": examine_registry,
}


def in_environment(home: Home, environment: str | None) -> Home:
    return replace(home, environment=environment) if environment else home
