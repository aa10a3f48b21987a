"""What `llmops doctor` says of a platform in pods: its origin, who may approve, and where its data is."""

from pathlib import Path

import pytest
import yaml

from llmops_assets.operations.doctor import PARTS, _repository, examine
from resources.home import home_from
from resources.signatures import SshSignatures
from tests.assets.test_pods import SETTINGS, changed
from tests.fakes.arriving import arriving_at
from tests.fakes.git_with_data import made_repository
from tests.fakes.pods import PodWorld, pod_world


@pytest.fixture
def world(tmp_path: Path) -> PodWorld:
    return pod_world(tmp_path, made_repository(tmp_path / "repository"))


def test_the_doctor_did_not_ask_the_origin(world: PodWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> dict[str, tuple[str, str]]:
        return {each.name: (each.verdict.value, each.found) for each in _repository(world.opened(world.home))}

    assert said()["origin"] == ("ok", f"main of file://{world.repository.path} may be fetched")
    arriving_at(world, tmp_path / "place", monkeypatch).watch()
    world.repository.commit_model("training", seed=2)
    assert said()["origin"][1].endswith("may be fetched")
    assert said()["origin"][1].endswith("may be fetched and pushed to")
    assert said()["repository"] == ("ok", f"main is at {world.repository.head[:12]}")
    world.repository.path.rename(tmp_path / "away")
    verdict, found = said()["origin"]
    assert verdict == "failed" and "cannot be fetched" in found


def test_the_doctor_waited_for_an_origin_that_it_should_have_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key or address is what a new platform has; its pods wait ten minutes for an outage to end."""
    monkeypatch.setattr("resources.git.ruling_files.PATIENCE_SECONDS", -1.0)  # whoever waits fails here at once
    where = {
        "LLMOPS_ORIGIN": f"file://{tmp_path}/nowhere",
        "LLMOPS_BRANCH": "main",
        "LLMOPS_HOME": str(tmp_path / "pod"),
    }
    origin, settings, *machine = examine(home_from(where, tmp_path))
    assert (origin.name, origin.verdict.value) == ("origin", "failed") and "cannot be fetched" in origin.found
    assert "key or token" in origin.mend and "validate" not in origin.mend
    assert (settings.name, settings.verdict.value) == ("settings", "unknown")
    assert {each.name for each in machine} == {"programs", "disk"}


def test_a_release_that_nobody_can_approve_was_called_well(world: PodWorld, tmp_path: Path) -> None:
    def said() -> tuple[str, str]:
        (found,) = PARTS["approvers"](world.doors())
        return found.verdict.value, found.found

    assert said() == ("failed", "nobody who holds a key may approve as technical: every release would wait there")
    roles = {"approvers": {"grace@example.com": {"production": ["technical"]}}}
    world.repository.commit({"config/approvers/approvers.yaml": yaml.safe_dump(roles)}, "a role without a key")
    assert said()[0] == "failed"
    key = SshSignatures().make_key(tmp_path / "grace", "Grace")
    for purpose, verdict in (("git", "failed"), ("llmops-approval", "ok")):
        signers = f'grace@example.com namespaces="{purpose}" {key}\n'
        world.repository.commit({"config/approvers/allowed_signers": signers}, f"a key for {purpose}")
        assert said()[0] == verdict
    assert said()[1] == "technical: grace@example.com"


def test_data_that_no_pod_can_have_was_not_needed(world: PodWorld) -> None:
    world.repository.commit({".dvc/config": "[core]\n    analytics = false\n"}, "no remote")
    (found,) = PARTS["dvc remote"](world.doors())
    assert found.verdict.value == "failed" and "no model has its data" in found.found


@pytest.mark.parametrize(
    ("config", "verdict", "told"),
    [
        ("", "failed", "is none"),
        ("[core]\n    remote = store\n", "failed", "leads to nowhere"),
        ("[core]\n    remote = a\n['remote \"a\"']\n    url = s3://old/dvc\n", "failed", "leads to s3://old/dvc"),
        ("[core]\n    remote = a\n['remote \"a\"']\n    url = s3://llmops/dvc/\n", "ok", "a leads to s3://llmops/dvc"),
    ],
    ids=["none", "no section", "another", "the same"],
)
def test_data_that_dvc_looks_for_elsewhere_was_called_there(
    world: PodWorld, monkeypatch: pytest.MonkeyPatch, config: str, verdict: str, told: str
) -> None:
    """The bucket of the settings answers; DVC reads the branch's own .dvc/config."""
    monkeypatch.setattr("resources.data.dvc_remotes.DvcRemotes.trouble", lambda self: "")
    monkeypatch.setattr("llmops_assets.operations.doctor._bucket", lambda *_: iter(()))
    settings = yaml.safe_load((world.repository.path / SETTINGS).read_text())
    changed(world, platform={**settings["platform"], "dvc_remote": {"uri": "s3://llmops/dvc"}})
    world.repository.commit({".dvc/config": config}, "another remote")
    (found,) = PARTS["dvc remote"](world.doors())
    assert (found.name, found.verdict.value) == ("dvc settings", verdict) and told in found.found, found
