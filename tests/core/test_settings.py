"""config/*.yaml: one schema for every environment, no secret in it, no way inside that it does not name itself."""

from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_core.canary_policy import CanaryPolicy
from llmops_core.errors import InputError
from llmops_core.settings import Settings, load_settings
from llmops_core.showing import field_name
from tests.core.field_walk import WRONG, all_models, as_bytes, changed, in_blocks, locations, used_fields

ROOT = Path(__file__).parents[2]
FILE = "config/x.yaml"


def database(name):
    address = {"host": "postgres.example.com", "port": 5433, "database": name, "user": name}
    return {**address, "password": {"env": "DAGSTER_PASSWORD"}}


FULL = {
    "name": "production",
    "branch": "release/v1",
    "staging": "staging",
    "repositories": [
        {
            **{"name": "team-a", "url": "http://git.llmops:3000/team/a.git", "branch": "main"},
            **{"user": "deploy", "token": {"file": "/run/secrets/team-a"}},
        },
        {"name": "team-b", "url": "git@git.example.com:team/b.git", "ssh_key": "/run/secrets/key"},
    ],
    "platform": {
        "ledger": database("ledger"),
        "dagster": database("dagster"),
        "mlflow": {"url": "http://mlflow.llmops:5000", "token": {"file": "/run/secrets/mlflow"}},
        "dvc_remote": {"uri": "s3://bucket/dvc", "endpoint": "http://minio:9000", "region": "eu-central-1"},
        "artifacts": {"uri": "s3://bucket/artifacts"},
        "feedback": {"uri": "s3://bucket/feedback"},
        "signing": {"key": "/run/secrets/signing", "signers": "a/platform"},
    },
    "jobs": {
        **{"kind": "kubernetes", "namespace": "llm-jobs", "image": "registry.example.com/llmops/training:1"},
        **{"store": {"uri": "s3://bucket/jobs", "endpoint": "http://minio:9000", "region": "eu-central-1"}},
        **{"pull_policy": "Always", "pull_secrets": ["registry"], "secrets": ["s3"], "service_account": "trainer"},
        **{"workload": "train_job", "queue": "gpus", "priority_class": "training"},
        "node_selector": {"pool": "jobs"},
        "tolerations": [{"key": "spot", "value": "yes", "effect": "NoSchedule"}],
        "gpus": {
            "a100": {
                **{"resource": "nvidia.com/gpu", "node_selector": {"nvidia.com/gpu.product": "A100"}},
                **{"tolerations": [{"key": "nvidia.com/gpu"}], "per_node": 4, "price_per_hour": 2.21},
            }
        },
        **{"memory_ladder_gb": [64.5, 128.5], "shared_memory_gb": 16.5, "ephemeral_storage_gb": 200.5},
        **{
            "deadline_seconds": 3600,
            "pending_seconds": 60,
            "checkpoint_seconds": 120,
            "kept_seconds": 3600,
            "orphan_seconds": 60,
        },
    },
    "serving": {
        **{"kind": "kubernetes", "namespace": "llm", "image": "registry.example.com/llmops/code:1"},
        **{"vllm_image": "docker.io/vllm/vllm-openai:v0.11.0", "pull_policy": "Always", "pull_secrets": ["registry"]},
        **{"gateway": {"name": "models", "listener": "https", "url": "https://models.example.com"}},
        **{"prometheus": {"url": "http://prometheus.monitoring:9090", "token": {"file": "/run/secrets/prometheus"}}},
        **{"secrets": ["s3"], "service_account": "model-server", "priority_class": "serving"},
        "node_selector": {"pool": "servers"},
        "tolerations": [{"key": "dedicated", "value": "serving", "effect": "NoSchedule"}],
        **{"ephemeral_storage_gb": 200.5, "shared_memory_gb": 16.5, "ready_seconds": 1200},
    },
    "executor": "k8s_job",
    "capacity": {"gpu_count": 8, "gpu_type": "a100", "memory_gb": 512.5, "cpu": 64.5},
    "replicas": {"minimum": 3, "maximum": 20},
    "memory_factor": 0.8,
    "strategy": "blue_green",
    "canary": {
        **{"steps_percent": [10, 50], "alpha": 0.01, "max_error_rate": 0.01, "immediate_error_rate": 0.05},
        **{"max_slow_rate": 0.05, "immediate_slow_rate": 0.1, "error_margin": 0.005, "slow_margin": 0.02},
        **{"min_requests_per_step": 100, "max_seconds_per_step": 120.5, "latency_limit_seconds": 0.5},
        **{"tick_seconds": 1.5, "synthetic_requests_per_second": 0.5},
    },
    "approvals": {
        "required": ["technical", "security"],
        "signers": "a/signers",
        "approvers": "a/roles.yaml",
        "sign_locally": False,
    },
    "slos": {"availability": 0.999, "p95_seconds": 2.5, "error_rate": 0.01, "requests_per_second": 100.5},
    "staging_tests": {"concurrency": [1, 5], "requests": 200, "min_success_rate": 0.95, "max_p95_seconds": 5.5},
    "allowed_endpoints": ["minio:9000", "mlflow.llmops", "git.llmops", "prometheus.monitoring"],
    "budget": {"per_month": 20000.5},
    "notify": {"channel": "#llm-production"},
    "webhook": {"github": {"file": "/run/secrets/github"}, "gitlab": {"env": "GITLAB_WEBHOOK"}},
    "arrivals": [
        {
            **{"name": "annotators", "place": "s3://annotations/atlas", "endpoint": "http://minio:9000"},
            **{"region": "eu-central-1", "model": "atlas-qa", "into": "feedback.jsonl", "settle_seconds": 60.5},
            "merge": "automatic",
        },
        {"name": "ratings", "place": "/srv/ratings", "model": "atlas-qa", "into": "feedback.jsonl"},
    ],
}
PLACES = [at for at, _ in locations(FULL)]
MAPPINGS = [(), *(at for at, value in locations(FULL) if isinstance(value, dict))]


def problems_of(sample):
    with pytest.raises(InputError) as caught:
        load_settings(as_bytes(sample), FILE)
    return caught.value.problems


def found_at(at):
    value = FULL
    for key in at:
        value = value[key]
    return value


def test_the_sample_uses_every_field():
    here = changed(changed(FULL, ("jobs",), {"kind": "local"}), ("serving",), {"kind": "local"})
    kept = {name: place for name, place in FULL["platform"].items() if name != "mlflow"}
    here = changed(here, ("platform",), {**kept, "mlflow_database": database("mlflow")})
    here = changed(here, ("executor",), "in_process")
    used = used_fields(load_settings(in_blocks(FULL), FILE)) | used_fields(load_settings(in_blocks(here), FILE))
    assert {(model, name) for model in all_models(Settings) for name in model.model_fields} == used


def test_every_field_is_described_for_editors():
    assert not [(m, n) for m in all_models(Settings) for n, field in m.model_fields.items() if not field.description]


@pytest.mark.parametrize("at", PLACES)
def test_a_value_of_a_wrong_type_is_named(at):
    for wrong in WRONG[type(found_at(at))]:
        problems = problems_of(changed(FULL, at, wrong))
        assert any(p.field == field_name(at) or p.field.startswith(f"{field_name(at)}.") for p in problems), problems


@pytest.mark.parametrize("at", MAPPINGS)
def test_an_unknown_key_is_named_wherever_it_stands(at):
    (problem,) = problems_of(changed(FULL, (*at, "surprise"), 1))
    assert problem.field == field_name((*at, "surprise"))


@pytest.mark.parametrize("field", [name for name, field in Settings.model_fields.items() if field.is_required()])
def test_a_missing_section_is_named(field):
    assert problems_of(changed(FULL, (field,), ...))[0].field == field


@settings(deadline=None)
@given(st.sampled_from(PLACES), st.one_of(st.none(), st.text(max_size=12), st.integers(), st.floats(), st.booleans()))
def test_no_value_anywhere_crashes(at, value):
    try:
        settings = load_settings(as_bytes(changed(FULL, at, value)), FILE)
    except InputError as error:
        assert all(problem.found and problem.expected and problem.message for problem in error.problems)
    else:
        assert settings.name


@pytest.mark.parametrize(
    ("at", "value", "field", "words"),
    [
        (("name",), "Prod", "name", "another form"),
        *(
            (("branch",), bad, "branch", "")
            for bad in ("-x", "a..b", "a b", "a/", "a.lock", "a//b", "a/.b", "a~1", "@{u}")
        ),
        (("platform", "dagster", "password"), {"env": "A", "file": "/a"}, "platform.dagster.password", "both"),
        (("platform", "dagster", "password"), {}, "platform.dagster.password", "neither"),
        (("platform", "dagster", "password"), "hunter2", "platform.dagster.password", ""),
        (("platform", "dagster", "password", "env"), "hunter2", "platform.dagster.password.env", "another form"),
        (("platform", "mlflow_database"), database("mlflow"), "platform.mlflow_database", "database of its own"),
        (("platform", "mlflow", "url"), "https://me:hunter2@mlflow.example.com", "platform.mlflow.url", "password"),
        (("platform", "mlflow", "url"), "http://other.llmops:5000", "platform.mlflow.url", "allowed_endpoints"),
        (("platform", "mlflow", "url"), "sqlite:///x.db", "platform.mlflow.url", "refused"),
        (("platform", "dvc_remote", "uri"), "s3://key:hunter2@bucket/x", "platform.dvc_remote.uri", "refused"),
        *(
            (("repositories", 1, "url"), bad, "repositories[1].url", words)
            for bad, words in (
                ("https://me:hunter2@git.example.com/b.git", "token"),
                ("https://hunter2@git.example.com/b.git", "user name"),
                ("ssh://git:hunter2@git.example.com/b.git", "token"),
                ("git:hunter2@git.example.com:team/b.git", "token"),
                ("http://git.example.com/b.git", "not encrypted"),
                ("http://169.254.169.254/b.git", "metadata"),
                ("ext::sh -c whoami", "none of the forms"),
                ("git://git.example.com/b.git", "none of the forms"),
                ("--upload-pack=whoami", "none of the forms"),
                ("ssh://-oProxyCommand=whoami/b", "none of the forms"),
                ("git@-oProxyCommand=whoami:b", "none of the forms"),
                ("git@git.example.com:-u/b", "none of the forms"),
                ("file:///srv/a b", "none of the forms"),
                ("file:///srv/../b", ".."),
                ("file://srv/b", "none of the forms"),
                ("/srv/b.git", "none of the forms"),
                ("git@git.example.com:b\nc", "none of the forms"),
            )
        ),
        (("repositories", 1, "branch"), "HEAD", "repositories[1].branch", "name a branch"),
        (("branch",), "HEAD", "repositories[1].branch", "name a branch"),
        (("repositories", 1, "name"), "team.a", "repositories[1].name", "repository_team_a"),
        (("repositories", 1, "token"), {"env": "TOKEN"}, "repositories[1].token", "no token"),
        (("repositories", 0, "ssh_key"), "/run/key", "repositories[0].ssh_key", "no key"),
        (("repositories", 0, "token"), "hunter2", "repositories[0].token", ""),
        (("allowed_endpoints",), [], "repositories[0].url", "allowed_endpoints"),
        (("allowed_endpoints",), [], "platform.dvc_remote.endpoint", "allowed_endpoints"),
        (("allowed_endpoints",), ["http://minio:9000"], "allowed_endpoints[0]", "refused"),
        (("allowed_endpoints",), ["169.254.169.254"], "allowed_endpoints[0]", "metadata"),
        (("jobs", "kept_seconds"), 359, "jobs.kept_seconds", "gone before it is billed"),
        (("jobs", "gpus", "a100", "price_per_hour"), ..., "jobs.gpus.a100.price_per_hour", "has no price"),
        (("jobs", "gpus", "a100", "price_per_hour"), float("nan"), "jobs.gpus.a100.price_per_hour", ""),
        (("jobs", "orphan_seconds"), 3301, "jobs.kept_seconds", "gone before it is billed"),
        (("serving", "namespace"), ..., "serving.namespace", ""),
        (("serving", "gateway"), ..., "serving.gateway", ""),
        (("serving", "gateway", "url"), "https://models.example.com/x", "serving.gateway.url", "leave the path out"),
        (("serving", "prometheus", "url"), "http://other:9090", "serving.prometheus.url", "allowed_endpoints"),
        (("serving", "kind"), "local", "serving.namespace", ""),
        (("capacity", "gpu_type"), ..., "capacity.gpu_type", "which GPUs"),
        (("capacity", "gpu_count"), 0, "capacity.gpu_type", "gpu_count is 0"),
        (("replicas", "maximum"), 2, "replicas.maximum", "below minimum"),
        (("memory_factor",), 1.1, "memory_factor", ""),
        (("strategy",), "yolo", "strategy", ""),
        (("canary", "steps_percent"), [50, 10], "canary.steps_percent[1]", "must rise"),
        (("canary", "steps_percent"), [], "canary.steps_percent", ""),
        (("canary", "immediate_error_rate"), 0.001, "canary.immediate_error_rate", "must be above"),
        (("canary", "alpha"), 1, "canary.alpha", ""),
        (("canary", "alpha"), 0.21, "canary.alpha", ""),
        (("approvals", "required"), [], "approvals.required", ""),
        (("approvals", "required"), ["technical", "technical"], "approvals.required[1]", "twice"),
        (("approvals", "required"), ["boss"], "approvals.required[0]", ""),
        (("approvals", "signers"), "../signers", "approvals.signers", "leave"),
        (("approvals", "sign_locally"), True, "approvals.sign_locally", "only an environment on this machine"),
        (("slos", "availability"), 1, "slos.availability", ""),
        (("webhook",), {}, "webhook", "hears nobody"),
        (("webhook", "github"), {}, "webhook.github", "neither"),
        (("arrivals", 1, "place"), "ratings", "arrivals[1].place", "another form"),
        (("arrivals", 1, "place"), "/srv/../etc", "arrivals[1].place", "holds . or .."),
        (("arrivals", 0, "place"), "s3://key:hunter2@annotations/x", "arrivals[0].place", "refused"),
        (("arrivals", 0, "place"), "/srv/x", "arrivals[0].endpoint", "a folder has no such field"),
        (("arrivals", 0, "place"), "/srv/x", "arrivals[0].region", "a folder has no such field"),
        (("platform", "artifacts"), None, "platform.artifacts", "share no folder"),
        (("arrivals", 1, "name"), "annotators", "arrivals[1].name", "another place has this name"),
        (("arrivals", 1, "name"), "rat-ings", "arrivals[1].name", "another form"),
        (("arrivals", 1, "into"), "../x.jsonl", "arrivals[1].into", "another form"),
        (("arrivals", 1, "into"), "feedback.csv", "arrivals[1].into", "JSON Lines"),
        (("arrivals", 1, "settle_seconds"), 0, "arrivals[1].settle_seconds", ""),
        (("arrivals", 1, "merge"), "never", "arrivals[1].merge", ""),
        (("staging_tests", "min_success_rate"), 0.0, "staging_tests.min_success_rate", ""),
        (("staging_tests", "concurrency"), [0], "staging_tests.concurrency[0]", ""),
    ],
)
def test_each_rule_names_its_field(at, value, field, words):
    problems = problems_of(changed(FULL, at, value))
    assert any(problem.field == field and words in problem.message for problem in problems), problems
    assert "hunter2" not in str(problems)


def test_the_canary_section_is_the_policy_that_judges():
    settings = load_settings(as_bytes(FULL), FILE)
    assert isinstance(settings.canary, CanaryPolicy)
    assert set(CanaryPolicy.model_fields) < set(FULL["canary"]), "every number of the policy stands in the file"


def of_repository(name):
    path = ROOT / "config" / f"{name}.yaml"
    settings = load_settings(path.read_bytes(), str(path))
    assert settings.name == name
    return settings


def test_the_environments_have_the_numbers_that_were_asked_for():
    local, staging, production = map(of_repository, ("local", "staging", "production"))
    assert (staging.strategy, staging.capacity.gpu_type, staging.memory_factor) == ("rolling", "v100", 0.8)
    assert (staging.replicas.minimum, staging.replicas.maximum) == (1, 5)
    assert (production.strategy, production.capacity.gpu_type) == ("blue_green", "a100")
    assert (production.replicas.minimum, production.replicas.maximum) == (3, 20)
    slos = production.slos
    assert (slos.availability, slos.p95_seconds, slos.error_rate) == (0.999, 2.0, 0.01)
    assert production.canary.steps_percent[0] == 10 and not production.approvals.sign_locally
    assert len(staging.approvals.required) == 2 and len(production.approvals.required) == 3
    assert local.canary.latency_limit_seconds == 0.5 and local.serving.kind == "local" and local.staging == "local"
    for each in (local, staging, production):
        assert each.staging_tests.concurrency == (1, 5, 10, 20) and each.staging_tests.min_success_rate == 0.95


def test_the_published_schema_accepts_the_sample():
    schema = Settings.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(FULL, schema)
