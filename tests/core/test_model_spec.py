"""model.yaml: every field, missing, wrong or unknown, gives one clear error; every rule is enforced."""

import random
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_core import schemas
from llmops_core.errors import InputError
from llmops_core.fingerprint import canonical_json
from llmops_core.model_spec import ModelSpec, load_model_spec
from llmops_core.showing import field_name
from tests.core.field_walk import WRONG, all_models, as_bytes, changed, in_blocks, locations, used_fields
from tests.core.spec_samples import ALL, FOLDER, HUGGING_FACE, LOCAL, S3

ROOT = Path(__file__).parents[2]
FILE = "models/x/model.yaml"
PLACES = [(name, at) for name, sample in ALL.items() for at, _ in locations(sample)]
MAPPINGS = [(name, at) for name, sample in ALL.items() for at, value in locations(sample) if isinstance(value, dict)]

TEXT_OR_LIST = {("training", "train")}
DEMANDED_BY_RULES = {
    "local": {"source.pretrain", "training.train"},
    "huggingface": {"resources.gpu_count"},
    "s3": {"training.train"},
    "folder": {"source.path", "training.train"},
}


def problems_of(sample, write=as_bytes, allowed=()):
    with pytest.raises(InputError) as caught:
        load_model_spec(write(sample), FILE, allowed)
    return caught.value.problems


def found_at(sample, at):
    for key in at:
        sample = sample[key]
    return sample


@pytest.mark.parametrize("name", ALL)
def test_samples_are_valid_and_survive_a_round_trip(name):
    spec = load_model_spec(in_blocks(ALL[name]), FILE)
    assert spec == load_model_spec(as_bytes(ALL[name]), FILE)
    assert spec == ModelSpec.model_validate_json(spec.model_dump_json())
    canonical_json(spec.model_dump(mode="json"))


def test_samples_use_every_field_so_that_no_field_escapes_the_tests_below():
    used = set().union(*(used_fields(load_model_spec(as_bytes(sample), FILE)) for sample in ALL.values()))
    declared = {(model, name) for model in all_models(ModelSpec) for name in model.model_fields}
    assert declared == used


def test_every_field_is_described_for_editors():
    bare = [f"{m.__name__}.{n}" for m in all_models(ModelSpec) for n, f in m.model_fields.items() if not f.description]
    assert not bare


@pytest.mark.parametrize(("name", "at"), PLACES)
def test_a_value_of_a_wrong_type_is_named(name, at):
    sample = ALL[name]
    value = found_at(sample, at)
    kinds = (str, list) if at in TEXT_OR_LIST else (type(value),)
    for wrong in (wrong for wrong in WRONG[type(value)] if type(wrong) not in kinds):
        problems = problems_of(changed(sample, at, wrong))
        assert any(p.field == field_name(at) or p.field.startswith(f"{field_name(at)}.") for p in problems), problems


def test_a_list_with_one_file_was_another_training_than_the_file():
    one, listed = (load_model_spec(as_bytes(changed(LOCAL, ("training", "train"), it)), FILE) for it in ("a", ["a"]))
    assert one == listed and one.training.files == ("a",)


def test_a_file_of_several_was_not_counted_as_learnt_from():
    assert load_model_spec(as_bytes(S3), FILE).learnt_from == {"train.jsonl", "feedback.jsonl"}


@pytest.mark.parametrize(("name", "at"), PLACES)
def test_a_field_left_out_is_named_or_has_a_default(name, at):
    """Whichever holds, it must be the one that the model declares."""
    if isinstance(at[-1], int):
        return
    try:
        load_model_spec(as_bytes(changed(ALL[name], at, ...)), FILE)
        left_out_is_fine = True
    except InputError as error:
        left_out_is_fine = False
        fields = {problem.field for problem in error.problems}
        assert any(field.startswith(field_name(at[:-1])) for field in fields), fields
    assert left_out_is_fine != (is_required(name, at) or field_name(at) in DEMANDED_BY_RULES[name])


def is_required(name, at):
    model = load_model_spec(as_bytes(ALL[name]), FILE)
    for key in at[:-1]:
        model = model[key] if isinstance(key, int) else getattr(model, key)
    return type(model).model_fields[at[-1]].is_required()


@pytest.mark.parametrize(("name", "at"), [*((name, ()) for name in ALL), *MAPPINGS])
def test_an_unknown_key_is_named_wherever_it_stands(name, at):
    (problem,) = problems_of(changed(ALL[name], (*at, "surprise"), 1))
    assert problem.field == field_name((*at, "surprise")) and "unknown" in problem.message


@settings(deadline=None)
@given(st.sampled_from(sorted(ALL)), st.randoms(use_true_random=False))
def test_the_order_of_keys_means_nothing(name, chance):
    def shuffled(value):
        if isinstance(value, dict):
            return {key: shuffled(value[key]) for key in chance.sample(sorted(value), len(value))}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    assert load_model_spec(in_blocks(shuffled(ALL[name])), FILE) == load_model_spec(in_blocks(ALL[name]), FILE)


@settings(deadline=None)
@given(st.sampled_from(PLACES), st.one_of(st.none(), st.text(max_size=12), st.integers(), st.floats(), st.booleans()))
def test_no_value_anywhere_crashes(place, value):
    name, at = place
    try:
        spec = load_model_spec(as_bytes(changed(ALL[name], at, value)), FILE)
    except InputError as error:
        assert all(problem.found and problem.expected and problem.message for problem in error.problems)
    else:
        assert spec.name


@pytest.mark.parametrize(
    ("sample", "at", "value", "field", "words"),
    [
        (LOCAL, ("name",), "Atlas", "name", "another form"),
        (LOCAL, ("name",), "a" * 64, "name", "longer than 63"),
        (LOCAL, ("name",), "a..b", "name", "another form"),
        (LOCAL, ("name",), "a\n", "name", "another form"),
        (LOCAL, ("version",), "1.0", "version", "another form"),
        (LOCAL, ("version",), "01.0.0", "version", "another form"),
        (LOCAL, ("owners",), [], "owners", "not allowed"),
        (LOCAL, ("owners", 0), "ada", "owners[0]", "another form"),
        (LOCAL, ("description",), "", "description", "not allowed"),
        (LOCAL, ("data_classification",), "secret", "data_classification", "not allowed"),
        (LOCAL, ("depends_on", 1), "atlas-qa", "depends_on[1]", "wait for itself"),
        (LOCAL, ("depends_on", 1), "small-model", "depends_on[1]", "named twice"),
        (LOCAL, ("source", "type"), "ftp", "source.type", "not allowed"),
        (LOCAL, ("source", "path"), "weights", "source", "both"),
        (LOCAL, ("source", "pretrain"), ..., "source", "neither"),
        (LOCAL, ("source", "pretrain", "hidden_size"), 132, "source.pretrain.hidden_size", "share it evenly"),
        (LOCAL, ("source", "pretrain", "context_tokens"), 32, "source.pretrain.row_tokens", "must fit"),
        (HUGGING_FACE, ("source", "revision"), "main", "source.revision", "another form"),
        (HUGGING_FACE, ("source", "revision"), "0" * 39, "source.revision", "another form"),
        (HUGGING_FACE, ("source", "repository"), "llama", "source.repository", "another form"),
        (HUGGING_FACE, ("source", "repository"), "../../etc", "source.repository", "another form"),
        (HUGGING_FACE, ("source", "endpoint"), "http://169.254.169.254/", "source.endpoint", "metadata"),
        (HUGGING_FACE, ("source", "endpoint"), "https://10.0.0.1", "source.endpoint", "address inside"),
        (HUGGING_FACE, ("source", "endpoint"), "file:///etc/passwd", "source.endpoint", "scheme file"),
        (S3, ("source", "uri"), "https://bucket/x", "source.uri", "no plain S3 address"),
        (S3, ("source", "uri"), "s3://bucket/../x", "source.uri", "prefix holds"),
        (LOCAL, ("training", "learning_rate"), 0, "training.learning_rate", "not allowed"),
        (LOCAL, ("training", "train"), "../train.jsonl", "training.train", "another form"),
        (LOCAL, ("training", "train"), ..., "training.train", "needs rows"),
        (LOCAL, ("training", "train"), [], "training.train", "not allowed"),
        (LOCAL, ("training", "train"), ["a.jsonl", "../b.jsonl"], "training.train[1]", "another form"),
        (LOCAL, ("training", "train"), ["a.jsonl", "a.jsonl"], "training.train", "named twice"),
        (LOCAL, ("training", "method"), "full", "training.lora", "not used by method full"),
        (LOCAL, ("training", "method"), "none", "training.train", "nothing is trained"),
        (LOCAL, ("training", "lora"), None, "training.lora", "section is empty"),
        (LOCAL, ("training", "lora", "rank"), 0, "training.lora.rank", "not allowed"),
        (LOCAL, ("training", "lora", "targets"), [], "training.lora.targets", "not allowed"),
        (LOCAL, ("training", "warmup_steps"), 300, "training.warmup_steps", "never reach its peak"),
        (LOCAL, ("source", "pretrain", "steps"), 30, "source.pretrain.warmup_steps", "never reach its peak"),
        (LOCAL, ("evaluation", "suites", 1, "data"), "train.jsonl", "evaluation.suites[1].data", "its memory"),
        (LOCAL, ("evaluation", "suites", 0, "data"), "pretrain.jsonl", "evaluation.suites[0].data", "its memory"),
        (S3, ("evaluation", "suites", 0, "data"), "feedback.jsonl", "evaluation.suites[0].data", "its memory"),
        (LOCAL, ("training", "tokens_per_step"), 32, "training.tokens_per_step", "at least one sequence"),
        (LOCAL, ("evaluation", "suites"), [], "evaluation.suites", "not allowed"),
        (LOCAL, ("evaluation", "suites", 1, "name"), "new_facts", "evaluation.suites[1].name", "has this name"),
        (LOCAL, ("evaluation", "suites", 0, "minimum"), 1.01, "evaluation.suites[0].minimum", "not allowed"),
        (LOCAL, ("resources", "gpu_count"), -1, "resources.gpu_count", "not allowed"),
        (HUGGING_FACE, ("resources", "memory_gb"), 15.9, "resources.memory_gb", "need 16 GB"),
        (LOCAL, ("resources", "gpu_type"), "a100", "resources.gpu_type", "gpu_count is 0"),
        (LOCAL, ("serving", "quantization"), "none", "serving.quantization", "GGUF"),
        (HUGGING_FACE, ("serving", "quantization"), "f16", "serving.quantization", "write none"),
        (LOCAL, ("serving", "protocol"), "grpc", "serving.protocol", "HTTP only"),
        (LOCAL, ("serving", "context_tokens"), 256, "serving.context_tokens", "no longer texts"),
        (LOCAL, ("serving", "timeout_seconds"), 0, "serving.timeout_seconds", "not allowed"),
    ],
)
def test_each_rule_names_its_field(sample, at, value, field, words):
    problems = problems_of(changed(sample, at, value), in_blocks if value != "a\n" else as_bytes)
    problem = next(problem for problem in problems if problem.field == field)
    assert words in problem.message and problem.message.startswith("line ")


def test_a_warm_up_of_all_steps_but_one_was_refused():
    assert load_model_spec(as_bytes(changed(LOCAL, ("training", "warmup_steps"), 299)), FILE).training.steps == 300


def test_a_suite_on_learnt_rows_was_told_only_after_the_other_problems():
    sample = changed(changed(LOCAL, ("evaluation", "suites", 0, "data"), "train.jsonl"), ("name",), "Bad Name")
    assert [problem.field for problem in problems_of(sample)] == ["name", "evaluation.suites[0].data"]


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "../x", "a/../b", "a/./b", ".", "..", "~/x", "a\\b", "a//b", "a/", "", "a b", "a\x00b", "ä"),
        *("C:/x", ".git/config", "a/.git/x", ".llmops/x", ".dvc/tmp", "$HOME", "a;b", "-rf", "a/-rf", "x" * 256),
    ],
)
@pytest.mark.parametrize(("sample", "at"), [(LOCAL, ("data", "path")), (FOLDER, ("source", "path"))])
def test_a_path_cannot_leave_the_repository(sample, at, path):
    problems = problems_of(changed(sample, at, path))
    assert problems[0].field == field_name(at) or "cannot see" in problems[0].message


def test_vllm_needs_a_gpu_and_is_told_beside_other_problems():
    sample = changed(changed(HUGGING_FACE, ("resources",), {"memory_gb": 8}), ("name",), "Bad Name")
    assert [problem.field for problem in problems_of(sample)] == ["name", "resources.gpu_count"]


def test_a_rule_holds_for_sections_with_defaults_beside_other_problems():
    sample = changed(changed(HUGGING_FACE, ("resources",), {"memory_gb": 8}), ("depends_on",), ...)
    assert [p.field for p in problems_of({**sample, "owners": []})] == ["owners", "resources.gpu_count"]


def test_a_file_of_faults_gives_a_bounded_report_soon():
    faults = changed(LOCAL, ("evaluation", "suites"), [{}] * 1000)
    assert len(problems_of({**faults, **{f"serving{index}": 1 for index in range(1500)}})) == 50


def test_a_learning_rate_of_ten_is_valid():
    assert (
        load_model_spec(as_bytes(changed(LOCAL, ("training", "learning_rate"), 10)), FILE).training.learning_rate == 10
    )


def test_adapters_without_a_section_get_written_out_defaults():
    training = load_model_spec(as_bytes(changed(LOCAL, ("training", "lora"), ...)), FILE).training
    assert training.lora is not None and training.lora.rank == 16


def test_a_default_and_the_same_value_written_out_are_one_fingerprint():
    implied = load_model_spec(as_bytes(changed(LOCAL, ("training", "lora"), {})), FILE)
    written = load_model_spec(as_bytes(changed(LOCAL, ("training", "lora"), {"rank": 16, "alpha": 32})), FILE)
    assert canonical_json(implied.model_dump(mode="json")) == canonical_json(written.model_dump(mode="json"))


def test_an_inner_endpoint_works_only_where_the_settings_list_it():
    sample = changed(S3, ("source", "endpoint"), "http://minio.llm:9000")
    assert load_model_spec(as_bytes(sample), FILE, {"minio.llm:9000"}).source.type == "s3"
    assert problems_of(sample, allowed={"minio.llm:9001"})[0].field == "source.endpoint"


def test_a_typing_error_is_recognised_and_secrets_are_hidden():
    sample = changed(LOCAL, ("training", "learning_rat"), 1)
    assert "did you mean learning_rate?" in problems_of(sample)[0].message
    for key, value in {"api_key": "hunter2", "note": "ghp_" + "a1" * 12, "password": "qqq"}.items():
        assert value not in str(problems_of(changed(LOCAL, (key,), value))[0])
    leaky = problems_of(changed(HUGGING_FACE, ("source", "endpoint"), "https://me:hunter2@example.com"))[0]
    assert "hunter2" not in str(leaky)


def test_the_line_is_that_of_the_field():
    text = in_blocks(changed(LOCAL, ("training", "lora", "rank"), "16"))
    line = next(n for n, row in enumerate(text.decode().splitlines(), 1) if "rank" in row)
    with pytest.raises(InputError) as caught:
        load_model_spec(text, FILE)
    assert caught.value.problems[0].message.startswith(f"line {line}: ")


@pytest.mark.parametrize("which", schemas.FILES)
def test_the_published_schema_is_fresh(which):
    """If this fails: python -m llmops_core.schemas model > models/model.schema.json (and settings likewise)."""
    assert (ROOT / schemas.FILES[which]).read_text(encoding="utf-8") == schemas.schema_text(which)


def test_the_schema_program_prints_one_schema_or_its_usage(capsys):
    assert schemas.main(["settings"]) is None
    assert capsys.readouterr().out == schemas.schema_text("settings")
    assert "model|settings" in str(schemas.main(["nonsense"])) and capsys.readouterr().out == ""


def test_the_published_schema_accepts_the_samples_and_refuses_unknown_keys():
    schema = ModelSpec.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for sample in ALL.values():
        jsonschema.validate(sample, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**sample, "surprise": random.random()}, schema)


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/model.yaml")), ids=lambda path: path.parent.name)
def test_the_models_of_this_repository_are_valid(path):
    spec = load_model_spec(path.read_bytes(), str(path))
    assert spec.name == path.parent.name
