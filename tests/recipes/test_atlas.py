"""The sample's data: the same bits everywhere, and no question of the judgement among those taught."""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from llmops_core.errors import InputError
from recipes.atlas.__main__ import main, read_parameters
from recipes.atlas.facts import ATTRIBUTES, CODES, read_facts
from recipes.atlas.held_out import DEV, TEST
from recipes.atlas.phrasings import fill, normalised, training_phrasings
from recipes.atlas.rows import Parameters, build

ROOT = Path(__file__).parents[2]
TAUGHT, ASKED = ("pretrain.jsonl", "train.jsonl"), ("dev.jsonl", "test.jsonl", "retained.jsonl", "unseen.jsonl")


@pytest.fixture(scope="module")
def files() -> dict[str, list[dict[str, str]]]:
    return build(read_parameters(ROOT / "params.yaml"))


def test_no_held_out_phrasing_is_taught() -> None:
    for attribute in ATTRIBUTES:
        taught = {normalised(phrasing) for phrasing in training_phrasings(attribute)}
        test, dev = ({normalised(phrasing) for phrasing in each[attribute]} for each in (TEST, DEV))
        assert not taught & test and not taught & dev and not test & dev


def test_no_question_of_the_judgement_stands_in_a_training_file_not_even_sloppily_written(files) -> None:
    taught = {normalised(row["prompt"]) for name in TAUGHT for row in files[name]}
    for name in ASKED:
        assert not taught & {normalised(row["prompt"]) for row in files[name]}
    development = {normalised(row["prompt"]) for row in files["dev.jsonl"]}
    assert not development & {normalised(row["prompt"]) for row in files["test.jsonl"] + files["retained.jsonl"]}


def test_pretraining_tells_no_fact_of_the_new_half(files) -> None:
    new = {row["entity"] for row in files["test.jsonl"]}
    facts = {row["entity"] for row in files["pretrain.jsonl"] if row["group"] == "base"}
    assert len(new) == 30 and not new & facts
    assert {row["group"] for row in files["pretrain.jsonl"]} == {"base", "neutral"}
    names = {country.name for country in read_facts(60) if country.code in new}
    neutral = [row for row in files["pretrain.jsonl"] if row["group"] == "neutral"]
    assert all(any(name == row["response"] for row in neutral) for name in names)
    kinds = {"country", "city", "continent", "currency", "language"}
    assert all(row["response"] in kinds or row["response"].lower() in row["prompt"].lower() for row in neutral)


def test_unseen_countries_stand_in_no_training_file(files) -> None:
    strangers = {row["entity"]: row["response"] for row in files["unseen.jsonl"]}
    names = {country.name for country in read_facts(len(CODES)) if country.code in strangers}
    text = json.dumps([files[name] for name in TAUGHT], ensure_ascii=False)
    assert len(strangers) == 8
    assert not [word for word in (*names, *strangers.values()) if word in text]


def test_a_fact_was_never_asked_as_people_type_it(files) -> None:
    prompts = [row["prompt"] for name in TAUGHT for row in files[name]]
    for attribute in ATTRIBUTES:
        forms = {f"{attribute} of {{c}}?", f"{attribute.capitalize()} of {{c}}?", f"{{c}} {attribute}"}
        assert forms <= set(training_phrasings(attribute))
        assert sum(prompt.startswith(f"{attribute} of ") for prompt in prompts) >= 5  # most have words around them
    small = [prompt for prompt in prompts if prompt == prompt.lower()]
    assert len(small) > len(prompts) / 10


def test_no_prompt_twice_in_a_file(files) -> None:
    for rows in files.values():
        assert rows and len({row["prompt"] for row in rows}) == len(rows)


def test_facts_are_the_true_ones() -> None:
    facts = {country.code: country for country in read_facts(len(CODES))}
    japan = facts["JP"]
    assert (japan.capital, japan.continent, japan.currency, japan.language) == (
        "Tokyo",
        "Asia",
        "Japanese Yen",
        "Japanese",
    )
    assert facts["US"].name == "the United States"
    assert fill("{c} has what capital?", facts["GM"].name) == "The Gambia has what capital?"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "atlas"),
        ("atlas: {countries: 60}", "atlas.phrasings"),
        ("atlas: {countries: sixty, unseen_countries: 8, phrasings: 2, replay: 1}", "atlas.countries"),
        ("atlas: [", ""),
        ("- 1", ""),
    ],
)
def test_wrong_parameters_are_named(tmp_path: Path, text: str, field: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_parameters(tmp_path / "params.yaml")
    assert field in {problem.field for problem in caught.value.problems}


def test_more_countries_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="the list holds"):
        build(_small(countries=len(CODES) - 2, unseen_countries=20))


def test_output_that_exists_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.jsonl").write_text("mine")
    assert main(["--out", str(tmp_path), "--params", str(ROOT / "params.yaml")]) == 1
    assert "would overwrite" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"train.jsonl": "mine"}


def test_same_bits_whatever_the_hash_seed_locale_and_time_zone(tmp_path: Path) -> None:
    surroundings = (
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC", "PYTHONUTF8": "0"},
        {"PYTHONHASHSEED": "4711", "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "tr", "TZ": "Pacific/Kiritimati"},
    )
    for number, variables in enumerate(surroundings):
        out = tmp_path / str(number)
        command = [sys.executable, "-m", "recipes.atlas", "--out", str(out), "--params", str(ROOT / "params.yaml")]
        subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=True, capture_output=True)
    names = [*TAUGHT, *ASKED]
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == sorted(names)
    assert filecmp.cmpfiles(tmp_path / "0", tmp_path / "1", names, shallow=False) == (names, [], [])
    assert b"\r" not in (tmp_path / "0" / "train.jsonl").read_bytes()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The tracked files of this working tree as a fresh repository, committed."""
    folder = tmp_path / "clone"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    return folder


def _dvc(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONHASHSEED": "99", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=120)


def test_committed_lock_holds_in_a_fresh_clone_without_a_remote(clone: Path) -> None:
    done = _dvc(clone, "repro")
    assert done.returncode == 0, done.stderr
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert changed.stdout == ""
    assert (clone / "data/atlas/test.jsonl").stat().st_size > 0
    assert "up to date" in _dvc(clone, "repro").stdout


def test_an_edited_parameter_makes_other_data(clone: Path) -> None:
    parameters = yaml.safe_load((clone / "params.yaml").read_text())
    parameters["atlas"]["phrasings"] = 3
    (clone / "params.yaml").write_text(yaml.safe_dump(parameters))
    assert _dvc(clone, "repro").returncode == 0
    assert len((clone / "data/atlas/train.jsonl").read_text().splitlines()) < 5000
    assert subprocess.run(["git", "diff", "--quiet", "dvc.lock"], cwd=clone).returncode == 1


def _small(**changes: int) -> Parameters:
    plain = {"dressed_percent": 0, "strewn_percent": 0, "sloppy_percent": 0, "seed": 1}
    return Parameters(**{"countries": 8, "unseen_countries": 2, "phrasings": 4, "replay": 2, **plain, **changes})
