"""Pinning: what a run reads was decided once, by a commit, whatever happens meanwhile."""

import pytest

from llmops_assets.cli.following import release_model
from llmops_assets.release import head_of, models_at, open_release, pinned_revision
from llmops_core.errors import InputError
from tests.fakes.platform_doors import World


def test_two_steps_of_one_run_saw_two_revisions(begun: World) -> None:
    first = begun.repository.head
    assert pinned_revision(begun.doors(), "tiny", "run-1", None) == first
    begun.repository.commit_model("training", seed=9)
    assert pinned_revision(begun.doors(), "tiny", "run-1", None) == first
    assert pinned_revision(begun.doors(), "tiny", "run-2", None) == begun.repository.head != first


def test_a_commit_between_two_assets_of_a_run_changed_the_second(begun: World) -> None:
    assert begun.materialize("dataset").success
    run = begun.instance.get_runs()[0]
    assert run.tags["llmops/revision"] == begun.repository.head


def test_two_models_of_one_run_id_shared_a_pin(begun: World) -> None:
    first = pinned_revision(begun.doors(), "tiny", "run", None)
    later = begun.repository.commit_model("training", seed=9)
    assert (pinned_revision(begun.doors(), "other", "run", None), first) == (later, first) and later != first


def test_a_wanted_revision_was_not_what_was_pinned(begun: World) -> None:
    first = begun.repository.head
    begun.repository.commit_model("training", seed=9)
    assert pinned_revision(begun.doors(), "tiny", "run", first[:10]) == first


def test_a_revision_that_does_not_exist_was_pinned(begun: World) -> None:
    with pytest.raises(InputError, match="no such revision"):
        pinned_revision(begun.doors(), "tiny", "run", "f" * 40)
    assert begun.doors().ledger.facts() == []


def test_an_edit_that_nobody_committed_was_released(begun: World) -> None:
    file = begun.repository.path / "models" / "tiny" / "model.yaml"
    before = begun.release().fingerprints
    file.write_text(file.read_text().replace("seed: 1", "seed: 8"))
    assert begun.release().fingerprints == before


def test_a_model_that_nobody_committed_was_released(begun: World) -> None:
    folder = begun.repository.path / "models" / "other"
    folder.mkdir()
    (folder / "model.yaml").write_text("name: other\n")
    with pytest.raises(InputError, match="commit it first"):
        open_release(begun.doors(), "other", begun.repository.head)
    assert models_at(begun.doors(), begun.repository.head) == ["tiny"]


def test_data_that_dvc_does_not_track_was_released(begun: World) -> None:
    begun.repository.commit_model(data={"path": "data/nowhere", "pii": "refuse"})
    with pytest.raises(InputError, match=r"data\.path: DVC tracks nothing there"):
        begun.release()


def test_a_readme_changed_what_must_be_made(begun: World) -> None:
    before = begun.release().fingerprints
    begun.repository.commit({"README.md": "Hello."})
    assert begun.release().fingerprints == before


def test_a_changed_recipe_did_not_make_its_asset_anew(begun: World) -> None:
    before = begun.release().fingerprints
    path = "recipes/finetune.py"
    begun.repository.commit({path: (begun.repository.path / path).read_text() + "\nchanged = True\n"})
    after = begun.release().fingerprints
    assert after["weights"] != before["weights"] and after["base_weights"] == before["base_weights"]


def test_the_head_of_the_wrong_branch_was_released(begun: World) -> None:
    main = begun.repository.head
    begun.repository.git("switch", "--quiet", "--create", "trial")
    trial = begun.repository.commit_model("training", seed=9)
    assert head_of(begun.doors()) == trial  # HEAD follows what is checked out
    settings = begun.doors().settings.model_copy(update={"branch": "main"})
    platform = begun.doors()
    object.__setattr__(platform, "settings", settings)
    assert head_of(platform) == main


def test_a_release_that_was_refused_sounded_as_if_nothing_served(released: World) -> None:
    released.repository.commit_model(resources={"gpu_count": 1, "memory_gb": 8, "cpu": 1})
    refused = release_model(released.doors(), "tiny", released.repository.head, print)
    what = f"tiny {released.repository.head[:12]} did not reach production: environment: "
    assert not refused.reached and refused.told.startswith(what)
    assert refused.told.endswith("(version 1 goes on serving)") and refused.serving_version == "1"
    for one in released.serving.running():
        released.serving.retire(one.name)
    refused = release_model(released.doors(), "tiny", released.repository.head, print)
    assert refused.told.endswith("(no version answers)")
