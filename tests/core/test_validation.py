"""A tree of inputs: all problems at once, files that do not fit each other, and environments that lack something."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_core.errors import InputError
from llmops_core.model_spec import load_model_spec
from llmops_core.settings import load_settings
from llmops_core.validation import PLAIN_FILE, lacks, trusted_files, validate
from tests.core.field_walk import as_bytes, changed, in_blocks
from tests.core.spec_samples import FOLDER, HUGGING_FACE, LOCAL, S3
from tests.core.test_settings import FULL as WATCHING

FULL = {**WATCHING, "arrivals": []}
FIELDS = ("approvals.approvers", "approvals.signers", "platform.signing.signers")
ROOT = Path(__file__).parents[2]
LOCK = b"""schema: '2.0'
stages:
  atlas:
    cmd: make
    outs:
    - path: data/atlas
      hash: md5
      md5: a8fe5685757e73db2e418e3469ab8889.dir
      size: 20
      nfiles: 6
"""
LISTS = {"a/signers": b"# nobody yet\n", "a/platform": b"# no key yet\n", "a/roles.yaml": b"approvers: {}\n"}


def tree(**models):
    """Files of a valid tree with these models, by name with underscores for hyphens."""
    files = {"config/staging.yaml": in_blocks(FULL | {"name": "staging"}), "config/production.yaml": in_blocks(FULL)}
    for name, sample in models.items():
        name = name.replace("_", "-")
        files[f"models/{name}/model.yaml"] = in_blocks({**sample, "name": name})
    return files | {"dvc.lock": LOCK, "README.md": b"\xff not ours", **LISTS}


def alone(sample, *depends_on):
    return {**sample, "depends_on": list(depends_on)}


def found(files, **options):
    return [(problem.file, problem.field) for problem in validate(files, **options)]


def test_a_good_tree_has_no_problem():
    assert validate(tree(a=alone(LOCAL), b=alone(S3, "a"), c=alone(HUGGING_FACE, "a", "b"))) == []


def test_files_could_arrive_for_a_model_that_is_not_there():
    files = tree(atlas_qa=alone(LOCAL)) | {"config/production.yaml": in_blocks(WATCHING)}
    assert validate(files) == []
    files["config/production.yaml"] = in_blocks(changed(WATCHING, ("arrivals", 1, "model"), "nobody"))
    assert found(files) == [("config/production.yaml", "arrivals[1].model")]


def test_this_repository_is_valid():
    patterns = ("models/*/model.yaml", "config/*.yaml", "config/*/*", "data/**/*.dvc", "dvc.lock", "dvc.yaml")
    paths = [path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()]
    assert validate({str(path.relative_to(ROOT)): path.read_bytes() for path in paths}) == []


def test_all_problems_of_all_files_come_at_once_and_in_order():
    files = tree(a=changed(alone(LOCAL, "zz"), ("resources", "cpu"), "2"), b={**alone(LOCAL), "surprise": 1})
    files["config/production.yaml"] = in_blocks({**FULL, "strategy": "yolo", "staging": "nowhere"})
    files["models/c/model.yaml"] = b"a: [1"
    files["models/d/model.yaml"] = b"\xff"
    assert found(files) == [
        ("config/production.yaml", "staging"),
        ("config/production.yaml", "strategy"),
        ("models/a/model.yaml", "depends_on[0]"),
        ("models/a/model.yaml", "resources.cpu"),
        ("models/b/model.yaml", "surprise"),
        ("models/c/model.yaml", ""),
        ("models/d/model.yaml", ""),
    ]


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        (("owners",), ["nobody"], "owners[0]"),
        (("approvals", "required"), ["nobodysrole"], "approvals.required[0]"),
        (("staging_tests", "concurrency"), [0], "staging_tests.concurrency[0]"),
        (("owners",), [], "owners"),
    ],
)
def test_a_list_with_a_wrong_item_was_also_said_to_be_too_short(place, value, field):
    file = "models/a/model.yaml" if place == ("owners",) else "config/staging.yaml"
    sample = {**alone(LOCAL), "name": "a"} if place == ("owners",) else FULL | {"name": "staging"}
    assert found(tree(a=alone(LOCAL)) | {file: in_blocks(changed(sample, place, value))}) == [(file, field)]


def test_a_name_that_differs_from_its_folder_or_file_is_found():
    files = tree(a=alone(LOCAL))
    files["models/other/model.yaml"] = files["models/a/model.yaml"]
    files["config/other.yaml"] = files["config/staging.yaml"]
    problems = validate(files)
    assert [(p.file, p.field, p.found, p.expected) for p in problems] == [
        ("config/other.yaml", "name", "'staging'", "other"),
        ("models/other/model.yaml", "name", "'a'", "other"),
    ]
    assert problems[1].message.startswith("line 1: ")


@pytest.mark.parametrize("found_there", [None, "a symbolic link", "a folder", "a pipe, socket or device"])
def test_a_folder_without_a_readable_model_was_ignored_in_silence(found_there):
    others = {"models/x/notes.txt": PLAIN_FILE, "models/model.schema.json": PLAIN_FILE}
    others |= {"models/x/model.yaml": found_there} if found_there else {}
    (problem,) = validate(tree(a=alone(LOCAL)), others=others)
    assert (problem.file, problem.expected) == ("models/x/model.yaml", "a plain file")
    assert problem.found == (found_there or "nothing")


def test_a_tree_with_nothing_in_it_was_valid():
    for files in ({}, {"README.md": b"", "models/model.schema.json": b"{}"}, {"data/a.dvc": b"outs: []\n"}):
        (problem,) = [each for each in validate(files) if each.file == "."]
        assert "nothing to validate: no models/*/model.yaml and no config/*.yaml" in problem.message


@pytest.mark.parametrize("others", [{}, dict.fromkeys(LISTS, "a symbolic link")])
def test_lists_of_approvers_that_are_not_there_were_missed(others):
    files = {file: content for file, content in tree(a=alone(LOCAL)).items() if file not in LISTS}
    problems = validate(files, others=others)
    fields = [(f"config/{name}.yaml", field) for name in ("production", "staging") for field in FIELDS]
    assert [(problem.file, problem.field) for problem in problems] == fields
    word = "a symbolic link is there" if others else "nothing is there"
    assert all(word in problem.message and problem.message.startswith("line ") for problem in problems)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("a/roles.yaml", b"approvers: [ada]\n", "correct it"),
        ("a/roles.yaml", b"approvers: {\n", "line "),
        ("a/roles.yaml", b"\xff", "UTF-8"),
        ("a/signers", b"ada@example.com ssh-ed25519 AAAA\n", "line 1"),
        ("a/signers", b"\xff", "UTF-8"),
    ],
)
def test_a_broken_list_of_approvers_was_read_only_when_somebody_approved(file, content, words):
    (problem,) = validate(tree(a=alone(LOCAL)) | {file: content})
    assert problem.file == file and words in str(problem)


def test_a_list_named_by_a_path_that_leads_elsewhere_was_offered_for_reading():
    files = tree() | {"config/evil.yaml": in_blocks(changed(FULL, ("approvals", "signers"), "../../etc/shadow"))}
    assert trusted_files(files) == set(LISTS)
    assert ("config/evil.yaml", "approvals.signers") in found(files)


@pytest.mark.parametrize(
    "broken", [{"models/b/model.yaml": b"a: [1"}, {"models/b/model.yml": b""}, {"models/b/notes": b""}]
)
def test_a_broken_model_was_also_said_to_be_missing_where_others_need_it(broken):
    files = tree(a=alone(LOCAL, "b")) | broken
    files["config/production.yaml"] = in_blocks(changed(WATCHING, ("arrivals", 1, "model"), "b"))
    files["models/atlas-qa/model.yaml"] = in_blocks({**alone(LOCAL), "name": "atlas-qa"})
    assert [file for file, _ in found(files)] == [next(iter(broken)).replace("notes", "model.yaml")]


def test_a_broken_environment_was_also_said_to_be_missing_where_others_need_it():
    assert found(tree() | {"config/staging.yaml": b"a: [1"}) == [("config/staging.yaml", "")]


@pytest.mark.parametrize("file", ["models/a/model.yml", "models/a/model.json", "config/production.yml"])
def test_a_file_that_would_be_ignored_for_its_name_is_found(file):
    assert (file, "") in found(tree() | {file: b"name: a"})


def test_a_dependency_that_does_not_exist_is_found_with_its_line():
    (problem,) = validate(tree(a=alone(LOCAL), b=alone(LOCAL, "a", "c")))
    assert problem.field == "depends_on[1]" and "models/c/model.yaml" in problem.message


def test_every_circle_of_dependencies_is_found_once():
    models = {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["e"], "e": ["d", "a"], "f": ["f"]}
    problems = validate(tree(**{name: alone(LOCAL, *depends_on) for name, depends_on in models.items()}))
    assert [(p.file, p.field) for p in problems] == [
        ("models/a/model.yaml", "depends_on[0]"),
        ("models/d/model.yaml", "depends_on[0]"),
        ("models/f/model.yaml", "depends_on[0]"),
    ]
    assert "a -> b -> c -> a" in problems[0].message and "itself" in problems[2].message


def test_a_chain_of_a_thousand_models_is_no_circle_and_costs_no_recursion():
    names = [f"m{index}" for index in range(1200)]
    document = {name: {"depends_on": [after]} for name, after in zip(names, [*names[1:], "m0"], strict=True)}
    files = {f"models/{name}/model.yaml": as_bytes(value) for name, value in document.items()}
    assert sum("wait for each other" in problem.message for problem in validate(files)) == 1
    files["models/m1199/model.yaml"] = as_bytes({"depends_on": []})
    assert not any("wait for each other" in problem.message for problem in validate(files))


def test_many_circles_do_not_take_for_ever():
    names = [f"m{index}" for index in range(40)]
    files = {f"models/{name}/model.yaml": as_bytes({"depends_on": names}) for name in names}
    assert 0 < sum("wait for each other" in problem.message for problem in validate(files)) <= 20


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["models/a/model.yaml", "config/a.yaml", "dvc.lock", "x.dvc"]), st.binary()))
def test_arbitrary_files_crash_nothing(files):
    for problem in validate(files):
        assert problem.file in {*files, "."} and problem.message and problem.expected and problem.found


@pytest.mark.parametrize(
    ("pointers", "missing"),
    [
        ({}, True),
        ({"dvc.lock": LOCK}, False),
        ({"dvc.lock": LOCK.replace(b"data/atlas", b"data")}, False),
        ({"dvc.lock": LOCK.replace(b"data/atlas", b"data/atlas2")}, True),
        (
            {"data/atlas.dvc": b"outs:\n- md5: a8fe5685757e73db2e418e3469ab8889.dir\n  hash: md5\n  path: atlas\n"},
            False,
        ),
        ({"dvc.lock": LOCK.replace(b"data/atlas", b"atlas"), "dvc.yaml": b"stages: {atlas: {wdir: data}}"}, False),
    ],
)
def test_data_without_a_dvc_pointer_is_found(pointers, missing):
    files = {file: content for file, content in tree(a=alone(LOCAL)).items() if file != "dvc.lock"}
    assert found(files | pointers) == ([("models/a/model.yaml", "data.path")] if missing else [])


def test_a_broken_pointer_file_is_a_problem_of_its_own():
    assert ("dvc.lock", "") in found(tree(a=alone(LOCAL)) | {"dvc.lock": b"stages: [\n"})


def test_weights_in_the_repository_need_a_pointer_too():
    files = tree(a=alone(FOLDER))
    assert found(files) == [("models/a/model.yaml", "source.path")]
    assert found(files, is_tracked=lambda path: path.startswith(("weights/tiny", "data/atlas"))) == []


def test_a_named_file_that_dvc_does_not_track_was_found_only_by_the_release():
    pinned = LOCK.replace(b"data/atlas", b"data/atlas/train.jsonl").replace(b".dir", b"")
    fields = ["evaluation.suites[0].data", "source.pretrain.data"]
    named = [("models/a/model.yaml", field) for field in fields]
    assert [each for each in found(tree(a=alone(LOCAL)) | {"dvc.lock": pinned}) if each in named] == named
    assert ("models/a/model.yaml", "training.train") not in found(tree(a=alone(LOCAL)) | {"dvc.lock": pinned})


def test_an_endpoint_listed_by_an_environment_is_allowed_in_models():
    files = tree(a=changed(alone(S3), ("source", "endpoint"), "http://minio:9000"))
    assert validate(files) == []
    files["models/a/model.yaml"] = files["models/a/model.yaml"].replace(b":9000", b":9001")
    assert found(files) == [("models/a/model.yaml", "source.endpoint")]


PRODUCTION = load_settings(in_blocks(FULL), "config/production.yaml")
LAPTOP = load_settings((ROOT / "config/local.yaml").read_bytes(), "config/local.yaml")


def spec(sample, **resources):
    sample = {**sample, "resources": {**sample["resources"], **resources}}
    return load_model_spec(in_blocks(sample), "x", {"minio:9000"})


def test_a_laptop_says_all_that_it_lacks_for_a_large_model():
    sentences = " ".join(lacks(spec(HUGGING_FACE), LAPTOP))
    for word in ("2 GPU(s), and local has none", "16.5 GB of memory", "8.5 processor cores", "Kubernetes cluster"):
        assert word in sentences
    assert lacks(spec(LOCAL, cpu=2), LAPTOP) == [] == lacks(spec(HUGGING_FACE), PRODUCTION)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"gpu_count": 9, "memory_gb": 72}, "needs 9 GPU(s), and production has 8"),
        ({"gpu_type": "h100"}, "of type h100, and those of production are a100"),
        ({"memory_gb": 641}, "needs 512.8 GB of memory"),
        ({"cpu": 65}, "needs 65 processor cores"),
    ],
)
def test_each_lack_is_one_sentence(resources, words):
    (sentence,) = lacks(spec(HUGGING_FACE, **resources), PRODUCTION)
    assert words in sentence


def test_memory_is_counted_after_the_environments_factor():
    assert lacks(spec(HUGGING_FACE, memory_gb=640), PRODUCTION) == []


def test_an_endpoint_that_only_another_environment_lists_is_a_lack():
    inner = changed(alone(S3), ("source", "endpoint"), "http://minio:9000")
    assert lacks(spec(inner), PRODUCTION) == []
    assert "refused in local" in lacks(spec(inner, cpu=2), LAPTOP)[0]
    with pytest.raises(InputError):
        load_model_spec(in_blocks(inner), "x")
