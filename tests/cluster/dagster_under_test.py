"""Dagster whose runs are pods of the cluster under test: this process launches them, as a daemon would.

Its storage is PostgreSQL on this machine, at an address that pods reach (LLMOPS_TEST_HOST). Account, rights and pods
are those of `deploy/`. Pods ask the API at the address of the kubeconfig, because nothing is routed to ClusterIPs here;
with a file, which lies at the same path in this process and in pods, since a run carries its instance's settings.
"""

import base64
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from kubernetes.client.exceptions import ApiException

from llmops_core.platform_settings import Postgres
from resources.ledger.postgres import dagster_storage
from tests.cluster import runs_in_pods
from tests.cluster.cluster_under_test import Json, Namespace, wait_for
from tests.deploy.manifests import HELM, KUBERNETES
from tests.fakes.postgres_server import PASSWORD, PASSWORD_VARIABLE

ACCOUNT, SECRET, CODE, KUBECONFIG_SECRET = "llmops-run", "dagster-postgresql", "runs-in-pods", "kubeconfig"
ENDS_SECONDS = 300.0  # every pod imports Dagster first


class DagsterOnCluster:
    """`folder` is this Dagster's own. Its path, and that of the kubeconfig, are used in pods as well: the first is made
    there by the run, the second by a mount, so neither lies in the other."""

    def __init__(self, namespace: Namespace, database: Postgres, folder: Path) -> None:
        self.namespace, self._config_file = namespace, folder.with_name(f"{folder.name}-kubernetes") / "config"
        self._prepare()
        instance = {
            "storage": dagster_storage(database),
            "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": self._launcher()},
            "compute_logs": {"module": NoOpComputeLogManager.__module__, "class": NoOpComputeLogManager.__name__},
            "telemetry": {"enabled": False},
        }
        (folder / "dagster.yaml").write_text(json.dumps(instance))
        namespace.create("configmaps", _config_map("dagster-instance", {"dagster.yaml": json.dumps(instance)}))
        self.instance = DagsterInstance.from_config(str(folder))

    def close(self) -> None:
        self.instance.dispose()
        shutil.rmtree(self._config_file.parent)

    def launch(self, job: str) -> str:
        """Starts a run of a job of runs_in_pods.py and returns its id."""
        pointer = ModuleCodePointer("runs_in_pods", job, working_directory=None)
        image = self.namespace.cluster.settings.image
        repository = RepositoryPythonOrigin("python", pointer, image, DEFAULT_DAGSTER_ENTRY_POINT, None)
        definition = getattr(runs_in_pods, job)
        run = self.instance.create_run_for_job(definition, job_code_origin=JobPythonOrigin(job, repository))
        self.instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
        return run.run_id

    def ended(self, run_id: str) -> DagsterRunStatus:
        def over() -> DagsterRunStatus | None:
            run = self.instance.get_run_by_id(run_id)
            return run.status if run is not None and run.is_finished else None

        return wait_for(over, f"the run does not end; it says {self.said(run_id)}", ENDS_SECONDS)

    def said(self, run_id: str) -> list[str]:
        return [entry.user_message or entry.message for entry in self.instance.all_logs(run_id)]

    def worked_in(self, run_id: str) -> list[str]:
        """The pods of its steps, in order."""
        mark = runs_in_pods.WORKED
        return [line.split()[-1] for line in self.said(run_id) if line.startswith(mark)]

    def jobs(self, run_id: str, component: str) -> list[Json]:
        """Of the run (`run_worker`) or of its steps (`step_worker`)."""
        labels = f"dagster/run-id={run_id},app.kubernetes.io/component={component}"
        return self.namespace.items("jobs", labels)

    def _prepare(self) -> None:
        """Account and rights as deploy/ gives them, the database's password, the code, and the way to the API."""
        documents = yaml.safe_load_all((KUBERNETES / "base" / "platform" / "access.yaml").read_text())
        found = {(each["kind"], each["metadata"]["name"]): each for each in documents}
        binding = found["RoleBinding", "dagster-runs"]
        for subject in binding["subjects"]:
            subject["namespace"] = self.namespace.name
        self.namespace.create("serviceaccounts", found["ServiceAccount", ACCOUNT])
        self.namespace.create("roles", found["Role", "dagster-runs"])
        self.namespace.create("rolebindings", binding)
        self.namespace.create(
            "secrets", {"metadata": {"name": SECRET}, "stringData": {"postgresql-password": PASSWORD}}
        )
        code = Path(runs_in_pods.__file__).read_text(encoding="utf-8")
        self.namespace.create("configmaps", _config_map(CODE, {"runs_in_pods.py": code}))
        given = json.dumps(self._kubeconfig())
        self._config_file.parent.mkdir(parents=True)
        self._config_file.write_text(given)
        held = {"metadata": {"name": KUBECONFIG_SECRET}, "stringData": {self._config_file.name: given}}
        self.namespace.create("secrets", held)

    def _kubeconfig(self) -> Json:
        """The API as pods reach it, for the account of runs."""
        given, cluster = self.namespace.cluster.connection.configuration, self.namespace.cluster
        server: Json = {"server": given.host}
        url = urlsplit(given.host)
        if url.hostname in ("127.0.0.1", "localhost") and cluster.host() != "127.0.0.1":
            server = {"server": f"{url.scheme}://{cluster.host()}:{url.port}", "tls-server-name": url.hostname}
        if not given.verify_ssl:
            server["insecure-skip-tls-verify"] = True
        elif given.ssl_ca_cert:
            server["certificate-authority-data"] = base64.b64encode(Path(given.ssl_ca_cert).read_bytes()).decode()
        return {
            **{"apiVersion": "v1", "kind": "Config", "current-context": "test"},
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": ACCOUNT, "user": {"token": self._token()}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": ACCOUNT, "namespace": self.namespace.name}}
            ],
        }

    def _token(self) -> str:
        path = self.namespace.path("serviceaccounts", ACCOUNT) + "/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        try:
            return self.namespace.cluster.call("POST", path, asked)["status"]["token"]
        except ApiException as error:
            if error.status != 404:
                raise
        # the stand-in, whose accounts have no tokens
        return self.namespace.cluster.connection.configuration.api_key["BearerToken"].removeprefix("Bearer ")

    def _launcher(self) -> dict[str, Any]:
        """As deploy/helm/values.yaml says; without the priority class, which is no test's to make."""
        values = yaml.safe_load((HELM / "values.yaml").read_text())
        told = values["runLauncher"]["config"]["k8sRunLauncher"]
        (location,) = values["dagster-user-deployments"]["deployments"]
        settings, folder = self.namespace.cluster.settings, str(self._config_file.parent)
        return {
            **{"job_image": settings.image, "image_pull_policy": settings.pull_policy},
            **{"job_namespace": self.namespace.name, "service_account_name": ACCOUNT},
            **{"instance_config_map": "dagster-instance", "postgres_password_secret": SECRET},
            **{"load_incluster_config": False, "kubeconfig_file": str(self._config_file)},
            "env_vars": ["PYTHONPATH=/code", "HOME=/tmp"],
            "env_secrets": [],
            "labels": told["labels"],
            "security_context": told["securityContext"],
            "fail_pod_on_run_failure": told["failPodOnRunFailure"],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "dagster-home", "emptyDir": {}},
                {"name": "code", "configMap": {"name": CODE}},
                {"name": "kubernetes", "secret": {"secretName": KUBECONFIG_SECRET}},
            ],
            "volume_mounts": [
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "dagster-home", "mountPath": "/opt/dagster/dagster_home"},
                {"name": "code", "mountPath": "/code"},
                {"name": "kubernetes", "mountPath": folder},
            ],
            "run_k8s_config": {
                # the password's variable, as the settings of the test's database name it
                "container_config": {
                    "env": [
                        {
                            "name": PASSWORD_VARIABLE,
                            "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "postgresql-password"}},
                        }
                    ]
                },
                "pod_spec_config": {"enable_service_links": False, "security_context": location["podSecurityContext"]},
                "job_spec_config": told["runK8sConfig"]["jobSpecConfig"],
            },
        }


def _config_map(name: str, data: dict[str, str]) -> Json:
    return {"metadata": {"name": name}, "data": data}
