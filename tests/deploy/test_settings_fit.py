"""config/<environment>.yaml and deploy/kubernetes speak of the same namespaces, queues, GPUs and accounts."""

import json

import pytest

from llmops_core.doctor import Health, rights_of_jobs, rights_of_serving
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.lifecycle import judge_lifecycle
from llmops_core.settings import load_settings
from llmops_core.uris import parse_s3
from tests.deploy.manifests import ENVIRONMENTS, HELM, ROOT, of_kind, one, settings, settings_file
from tests.deploy.test_helm import merged

environments = pytest.mark.parametrize("environment", ENVIRONMENTS)
with_gpus = pytest.mark.parametrize("environment", ["staging", "production"])


@environments
def test_the_code_location_follows_another_branch_than_the_settings(environment: str) -> None:
    told = one(environment, "ConfigMap", "llmops")["data"]
    assert told["LLMOPS_ENVIRONMENT"] == settings_file(environment).stem == settings(environment)["name"]
    assert told["LLMOPS_BRANCH"] == settings(environment)["branch"]


@environments
def test_servers_go_to_a_namespace_that_nobody_makes(environment: str) -> None:
    assert settings(environment)["serving"]["namespace"] == f"llm-{environment}"
    one(environment, "Namespace", f"llm-{environment}")


@environments
def test_servers_ask_for_what_the_cluster_does_not_have(environment: str) -> None:
    serving, gateway = settings(environment)["serving"], one(environment, "Gateway", "models")
    assert gateway["metadata"]["namespace"] == serving["namespace"]
    assert serving["gateway"]["name"] == gateway["metadata"]["name"]
    listeners = {listener["name"]: listener for listener in gateway["spec"]["listeners"]}
    asked = listeners[serving["gateway"]["listener"]]
    assert serving["gateway"]["url"] == f"{asked['protocol'].lower()}://{asked['hostname']}"
    assert (
        one(environment, "ServiceAccount", serving["service_account"])["metadata"]["namespace"] == serving["namespace"]
    )
    one(environment, "PriorityClass", serving["priority_class"])
    assert {*serving["secrets"], *serving["pull_secrets"]} <= secrets_made("workloads")
    assert serving["image"].startswith("registry.llmops.example.com/llmops/code")


@environments
def test_the_keys_of_jobs_or_servers_open_all_of_the_store(environment: str) -> None:
    """They run what others wrote: recipes, engines, weights. The platform's own keys delete what is kept for ever."""
    mine = settings(environment)
    jobs, servers = set(mine["jobs"]["secrets"]), set(mine["serving"]["secrets"])
    assert jobs and servers and not jobs & servers
    stored = {
        secret["spec"]["target"]["name"]: {datum["remoteRef"]["key"] for datum in secret["spec"]["data"]}
        for secret in of_kind("staging", "ExternalSecret")
    }
    for name in jobs | servers:
        assert not any(stored[name] & keys for other, keys in stored.items() if other != name), name


@environments
def test_jobs_ask_for_what_the_cluster_does_not_have(environment: str) -> None:
    jobs = settings(environment)["jobs"]
    space = jobs["namespace"]
    one(environment, "Namespace", space)
    account = one(environment, "ServiceAccount", jobs["service_account"])
    assert account["metadata"]["namespace"] == space
    queues = {
        (queue["metadata"]["namespace"], queue["metadata"]["name"]) for queue in of_kind(environment, "LocalQueue")
    }
    assert queues == ({(space, jobs["queue"])} if "queue" in jobs else set())
    one(environment, "PriorityClass", jobs["priority_class"])
    assert {*jobs["secrets"], *jobs["pull_secrets"]} <= secrets_made("workloads")
    assert jobs["image"].startswith("registry.llmops.example.com/llmops/training")


@with_gpus
def test_the_queue_or_the_quota_counts_other_gpus_than_the_settings(environment: str) -> None:
    mine = settings(environment)
    count, kind = mine["capacity"]["gpu_count"], mine["capacity"]["gpu_type"]
    (_, flavor), (queue,) = of_kind(environment, "ResourceFlavor"), of_kind(environment, "ClusterQueue")
    assert kind == {"staging": "v100", "production": "a100"}[environment]
    assert flavor["metadata"]["name"] == f"{environment}-{kind}"
    quotas = {r["name"]: r["nominalQuota"] for r in queue["spec"]["resourceGroups"][0]["flavors"][1]["resources"]}
    assert int(quotas["nvidia.com/gpu"]) >= count
    hard = one(environment, "ResourceQuota", "workloads")["spec"]["hard"]["requests.nvidia.com/gpu"]
    assert int(hard) == mine["replicas"]["maximum"] * count + count  # all servers, and one job
    # no limit for pools at large: that of GPUs follows the settings, slot by slot (resources/jobs/gpu_pool.py)
    assert merged(environment)["concurrency"]["pools"] == {"granularity": "op"}
    assert merged(environment)["dagsterDaemon"]["runMonitoring"]["freeSlotsAfterRunEndSeconds"] > 0
    assert mine["jobs"]["gpus"][kind]["node_selector"].items() <= flavor["spec"]["nodeLabels"].items()


@environments
def test_the_registry_is_not_where_the_settings_look(environment: str) -> None:
    service = one(environment, "Service", "mlflow")
    (port,) = service["spec"]["ports"]
    host = f"mlflow.{service['metadata']['namespace']}.svc.cluster.local:{port['port']}"
    assert settings(environment)["platform"]["mlflow"]["url"] == f"http://{host}"
    assert host in one(environment, "ConfigMap", "mlflow")["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


@environments
def test_the_database_of_the_chart_is_not_the_one_of_the_settings(environment: str) -> None:
    told, mine = merged(environment)["postgresql"], settings(environment)["platform"]["dagster"]
    assert (told["postgresqlHost"], told["postgresqlUsername"], told["postgresqlDatabase"]) == (
        mine["host"],
        mine["user"],
        mine["database"],
    )
    assert mine["password"] == {"env": "DAGSTER_PG_PASSWORD"}  # the variable that the chart sets
    ledger = settings(environment)["platform"]["ledger"]["password"]["env"]
    (datum,) = one("staging", "ExternalSecret", "ledger-postgresql")["spec"]["data"]
    assert datum["secretKey"] == ledger


@environments
def test_what_runs_print_goes_to_a_bucket_of_another_environment(environment: str) -> None:
    told = merged(environment)["computeLogManager"]["config"]["s3ComputeLogManager"]
    assert settings(environment)["platform"]["artifacts"]["uri"].startswith(f"s3://{told['bucket']}/")


@environments
def test_what_jobs_leave_in_the_bucket_stays_for_ever(environment: str) -> None:
    mine = load_settings(settings_file(environment).read_bytes(), settings_file(environment).name)
    assert isinstance(mine.jobs, ClusterJobsPlace)
    rules = json.loads((ROOT / "deploy" / "object-store" / "lifecycle.json").read_text())["Rules"]
    prefix = f"{parse_s3(mine.jobs.store.uri).prefix}/"
    assert judge_lifecycle(prefix, rules, mine.jobs.deadline_seconds).verdict is Health.OK
    kept = [bucket.uri for bucket in (mine.platform.artifacts, mine.platform.dvc_remote) if bucket is not None]
    expiring = [rule["Filter"]["Prefix"] for rule in rules if "Days" in rule.get("Expiration", {})]
    assert kept and not any(parse_s3(uri).prefix.startswith(each.split("/")[0]) for uri in kept for each in expiring)


@environments
def test_the_platform_lacks_a_right_that_it_uses(environment: str) -> None:
    mine = load_settings(settings_file(environment).read_bytes(), settings_file(environment).name)
    assert isinstance(mine.jobs, ClusterJobsPlace)
    for role, needed in (("llmops-jobs", rights_of_jobs(mine.jobs)), ("llmops-serving", rights_of_serving())):
        rules = one(environment, "Role", role)["rules"]
        granted = {
            (verb, g, r)
            for rule in rules
            for verb in rule["verbs"]
            for g in rule["apiGroups"]
            for r in rule["resources"]
        }
        wanted = {
            (right.verb, right.group, "/".join(filter(None, (right.resource, right.subresource)))) for right in needed
        }
        assert wanted - granted == set()


@environments
def test_dagster_may_not_end_a_run_that_it_launched(environment: str) -> None:
    """What dagster-k8s's launcher and executor do with a run, a step and their pods."""
    rules = one(environment, "Role", "dagster-runs")["rules"]
    granted = {f"{verb} {name}" for rule in rules for name in rule["resources"] for verb in rule["verbs"]}
    asked = {"create jobs", "list jobs", "delete jobs", "get jobs/status", "get pods", "list pods", "delete pods"}
    assert asked | {"get pods/log", "list events"} <= granted
    bound = {each["name"] for each in one(environment, "RoleBinding", "dagster-runs")["subjects"]}
    assert bound == {"dagster", "llmops-run"}


def test_an_environment_has_no_values() -> None:
    assert {path.name for path in HELM.glob("values-*.yaml")} == {f"values-{name}.yaml" for name in ENVIRONMENTS}


@environments
def test_a_region_stands_where_the_stores_client_does_not_look(environment: str) -> None:
    """boto3 reads AWS_DEFAULT_REGION and no AWS_REGION."""
    for name in ("llmops", "mlflow"):
        told = one(environment, "ConfigMap", name)["data"]
        assert told["AWS_DEFAULT_REGION"] and "AWS_REGION" not in told


@environments
def test_two_pods_of_an_environment_would_each_have_a_state_of_their_own(environment: str) -> None:
    """Runs are pods, and pods share no disk: everything that outlives one stands elsewhere."""
    mine = load_settings(settings_file(environment).read_bytes(), settings_file(environment).name)
    places = mine.platform
    assert None not in (places.ledger, places.dagster, places.mlflow, places.dvc_remote, places.artifacts)
    assert mine.jobs.kind == mine.serving.kind == "kubernetes"


@environments
def test_servers_are_measured_by_nobody(environment: str) -> None:
    assert of_kind(environment, "PodMonitor") and of_kind(environment, "Gateway")


def secrets_made(part: str) -> set[str]:
    """Names; elsewhere the same are made by hand (tests/deploy/test_page.py)."""
    return {
        secret["spec"]["target"]["name"]
        for secret in of_kind("staging", "ExternalSecret")
        if secret["metadata"]["namespace"] == {"workloads": "llm-staging", "platform": "llmops-staging"}[part]
    }
