"""The audit under attack: each link of the chain is broken in turn, and the audit must name it."""

import json
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmops_assets.operations.audit import _by_rules_of_then, audit
from llmops_assets.release import open_release
from llmops_core.errors import IntegrityError
from llmops_core.facts import latest
from llmops_core.lineage import Link, first_not_verified, verdict_of
from llmops_core.made_of import RULES
from llmops_core.plan import ModelInputs, ingredients
from tests.fakes.http_gateway import Behaviour
from tests.fakes.people import GRACE, key_of, signed
from tests.fakes.platform_doors import World


def _links(world: World) -> dict[str, Link]:
    return {link.name: link for link in audit(world.doors(), "tiny")}


def _broken(world: World) -> set[str]:
    return {name for name, link in _links(world).items() if link.verdict == "broken"}


def test_an_untouched_release_was_not_verified(released: World) -> None:
    links = audit(released.doors(), "tiny")
    assert verdict_of(links) == "verified", [link for link in links if link.verdict != "verified"]
    assert links[0].name == "endpoint" and links[-1].name == "commit"


def test_a_model_that_does_not_serve_was_verified(begun: World) -> None:
    links = audit(begun.doors(), "tiny")
    assert verdict_of(links) == "incomplete"


@pytest.mark.parametrize(
    ("kind", "file", "link"),
    [
        ("weights", "model.safetensors", "weights"),
        ("weights", "report.json", "weights"),
        ("base_weights", "model.safetensors", "base_weights"),
        ("evaluation", "report.json", "evaluation"),
        ("evaluation", "candidate/predictions.jsonl", "evaluation"),
        ("staging_tests", "report.json", "staging_tests"),
        ("canary", "report.json", "canary"),
        ("weights", "manifest.json", "weights"),
    ],
)
def test_a_changed_byte_was_not_found(released: World, kind: str, file: str, link: str) -> None:
    _change(_artifact(released, kind) / file)
    assert link in _broken(released)


def test_a_changed_row_of_the_data_was_not_found(released: World) -> None:
    _change(_artifact(released, "dataset") / "test.jsonl")
    broken = _broken(released)
    assert broken and all(name.startswith("dataset of ") for name in broken)


def test_a_changed_copy_of_the_file_that_serves_was_not_found(released: World) -> None:
    _change(_artifact(released, "weights") / "model.gguf")
    assert _broken(released) == {"served file", "weights"}


def test_a_server_with_a_file_of_somebody_s_own_was_not_found(released: World, tmp_path: Path) -> None:
    (name,) = [one.name for one in released.serving.running() if "-production-" in one.name]
    other = tmp_path / "model.gguf"
    other.write_bytes((_artifact(released, "weights") / "model.gguf").read_bytes())
    plan = released.serving.plans[name]
    released.serving.plans[name] = plan.model_copy(update={"model_file": other})
    assert _broken(released) == {"served file"}


def test_an_artefact_that_is_gone_was_not_found(released: World) -> None:
    folder = _artifact(released, "base_weights")
    folder.rename(folder.with_name("elsewhere"))
    assert "base_weights" in _broken(released)


def test_a_row_that_dvc_has_otherwise_was_not_found(released: World) -> None:
    (pointer,) = released.doors().data.tracked(released.repository.head).values()
    (listed, *_) = released.doors().data.listed(released.repository.head, "data/tiny")
    _change(released.repository.cached(listed.md5))
    assert _broken(released) == {"data/tiny in DVC"} and pointer


def test_that_dvc_lost_its_copy_passed_for_tampering_or_for_proof(released: World) -> None:
    (listed, *_) = released.doors().data.listed(released.repository.head, "data/tiny")
    released.repository.cached(listed.md5).unlink()
    links = _links(released)
    assert _broken(released) == set() or links["data/tiny in DVC"].verdict != "verified"
    assert verdict_of(links.values()) != "verified"


def _edit(world: World, statement: str) -> None:
    with sqlite3.connect(world.home.root / "ledger.db") as database:
        assert database.execute(statement).rowcount == 1
    database.close()


@pytest.mark.parametrize(
    "edit",
    [
        "update facts set at = '2020-01-01T00:00:00.000+00:00' where sequence = 2",
        "update facts set body = replace(body, 'passed', 'Passed') where subject = 'evaluation' and kind = 'produced'",
        "delete from facts where sequence = 2",
        "update facts set sequence = 1000 where sequence = 3",
        "update facts set body = '{' where sequence = 2",
    ],
)
def test_an_edited_ledger_was_not_found(released: World, edit: str) -> None:
    _edit(released, edit)
    assert "ledger" in _broken(released)


def test_a_deleted_newest_fact_made_an_audit_of_nothing_pass(released: World) -> None:
    _edit(released, "delete from facts where kind = 'switched' and subject = 'production'")
    assert verdict_of(audit(released.doors(), "tiny")) != "verified"


@pytest.mark.parametrize("tag", ["llmops.weights_digest", "llmops.revision", "llmops.data_hash"])
def test_a_changed_tag_of_the_registry_was_not_found(released: World, tag: str) -> None:
    (version,) = released.registry.registered["tiny"]
    released.registry.registered["tiny"] = [replace(version, tags={**version.tags, tag: "0" * 40})]
    assert _broken(released) == {"registry"}


def test_a_version_that_the_registry_lost_was_not_found(released: World) -> None:
    released.registry.registered["tiny"] = []
    assert _broken(released) == {"registry"}


def test_an_approval_by_a_key_that_was_never_trusted_was_not_found(released: World) -> None:
    key = released.home.root / "keys" / "local-approver"
    key.unlink()  # the next look makes another key: nobody of the trusted ones has signed
    assert _broken(released) == {"approval"}


def test_a_deleted_key_was_not_named_or_nobody_was_told_how_to_end_one(tested: World) -> None:
    signed(tested, GRACE)
    assert tested.materialize("approval", "canary", "production").success
    file = tested.repository.path / "config/approvers/allowed_signers"
    trusted = file.read_text()
    file.write_text("".join(line for line in trusted.splitlines(keepends=True) if not line.startswith(GRACE)))
    told = _links(tested)["approval"]
    shown = subprocess.run(["ssh-keygen", "-lf", key_of(tested, GRACE)], capture_output=True, text=True, check=True)
    assert told.verdict == "broken"
    for part in (shown.stdout.split()[1], f"technical by {GRACE}", "config/approvers/allowed_signers", "valid-before="):
        assert part in told.detail
    file.write_text(trusted.replace(GRACE, f'{GRACE} valid-before="20990101"'))
    assert _links(tested)["approval"].verdict == "verified"


def test_a_release_that_nobody_signed_was_verified(released: World) -> None:
    _edit(
        released,
        "update facts set body = json_set(body, '$.approvals', json('[]')) where subject = 'approval'"
        " and kind = 'produced'",
    )
    assert "approval" in _broken(released)


@pytest.mark.parametrize(
    "edit",
    [
        "update facts set body = json_set(body, '$.subject.weights_digest', 'other') where kind = 'produced'"
        " and subject = 'approval'",
        "update facts set body = json_set(body, '$.statement', replace(body ->> 'statement', 'local', 'other'))"
        " where kind = 'approved'",
        "delete from facts where kind = 'approved'",
    ],
)
def test_an_approval_of_something_else_was_counted(released: World, edit: str) -> None:
    _edit(released, edit)
    assert {"approval", "ledger"} <= _broken(released)


def test_versions_signed_by_another_platform_were_not_found(released: World) -> None:
    (released.home.root / "keys" / "platform").unlink()
    assert _broken(released) == {"registry"}


@pytest.mark.parametrize("lie", [{"version": "9"}, {"status": 500}])
def test_who_answers_was_believed(released: World, lie: dict) -> None:
    released.gateway.behaviours["tiny-production"] = Behaviour(**lie)
    links = _links(released)
    assert links["endpoint"].verdict == ("broken" if "version" in lie else "incomplete")


def test_an_endpoint_that_is_down_passed_for_tampering_or_for_proof(released: World) -> None:
    released.gateway.down = True
    links = audit(released.doors(), "tiny")
    assert verdict_of(links) == "incomplete"
    assert first_not_verified(links).name == "endpoint"  # type: ignore[union-attr]


def test_somebody_else_who_answers_under_its_name_was_not_found(released: World) -> None:
    released.gateway.answers = dict.fromkeys(released.gateway.answers, "ROGUE")
    assert _broken(released) == {"answers"}


def test_a_server_that_does_not_run_was_not_found(released: World) -> None:
    released.serving.broken |= {one.name for one in released.serving.running()}
    assert _broken(released) == {"server"}


def test_a_rewritten_history_was_not_found(released: World) -> None:
    (released.repository.path / "models/tiny/model.yaml").unlink()
    old = released.repository.head
    released.repository.git("checkout", "--quiet", "--orphan", "new")
    released.repository.git("rm", "-rfq", "--cached", ".")
    released.repository.commit({"README.md": "nothing"}, "another history")
    released.repository.git("branch", "-D", "main")
    released.repository.git("reflog", "expire", "--expire=now", "--all")
    released.repository.git("gc", "--quiet", "--prune=now")
    assert "commit" in _broken(released), old


@pytest.mark.parametrize("spoil", [lambda w: w.registry.registered.clear(), lambda w: setattr(w.gateway, "down", True)])
def test_the_lineage_asset_passed_with_a_broken_link(released: World, spoil: Callable[[World], None]) -> None:
    assert released.materialize("lineage").success
    spoil(released)
    assert not released.materialize("lineage").success


def _artifact(world: World, kind: str) -> Path:
    return world.step(kind).artifact(kind).path


def _change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("stage", "changes", "verdict", "words"),
    [
        (
            "weights",
            {"a field of tomorrow": 1},
            "verified",
            "did not know weights: a field of tomorrow; all that",
        ),
        (
            "weights",
            {"model.yaml training.steps": 99},
            "broken",
            "otherwise than what was released: weights: model",
        ),
        (
            "weights",
            {"model.yaml training.steps": ...},
            "incomplete",
            "by weights: model.yaml training.steps, and",
        ),
        ("canary", {RULES: 2}, "incomplete", "llmops release tiny` proves it by the rules of today"),
    ],
)
def test_a_platform_with_other_rules_called_a_release_forged_or_a_forged_one_good(
    released: World, monkeypatch: pytest.MonkeyPatch, stage: str, changes: dict[str, object], verdict: str, words: str
) -> None:
    def of_tomorrow(inputs: ModelInputs) -> dict[str, dict[str, object]]:
        parts = ingredients(inputs)
        merged = {**parts[stage], **changes}
        return parts | {stage: {name: value for name, value in merged.items() if value is not ...}}

    assert _links(released)["commit"].verdict == "verified"
    monkeypatch.setattr("llmops_assets.release.ingredients", of_tomorrow)
    link = _links(released)["commit"]
    assert link.verdict == verdict and words in link.detail, link


def test_ingredients_that_somebody_edited_proved_another_commit(released: World) -> None:
    doors = released.doors()
    production = latest(doors.ledger.facts("tiny"), "produced", subject="production")
    assert production is not None
    release = open_release(doors, "tiny", production.body["revision"])
    edited = json.loads(json.dumps(production.body["made_of"]))
    edited["stages"][2]["ingredients"]["model.yaml training.steps"] = "0" * 64
    forged = production.model_copy(update={"body": {**production.body, "made_of": edited}, "fingerprint": "0" * 64})
    with pytest.raises(IntegrityError, match="gives the fingerprint"):
        _by_rules_of_then(release, forged)
