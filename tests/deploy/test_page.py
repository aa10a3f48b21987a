"""docs/kubernetes.md names what is there: files, objects, versions. (tests/test_docs.py checks commands and links.)"""

import re

from tests.deploy.manifests import HELM, ROOT, of_kind, one

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
MADE = {"deploy/images/torch-cu126.lock"}  # by the line that names it


def test_a_command_names_a_file_that_is_not_there() -> None:
    named = set(re.findall(r"(?:deploy|config|requirements)/[\w./-]*\w", BLOCKS))
    assert named and {path for path in named - MADE if not (ROOT / path).exists()} == set()


def test_a_secret_that_the_manifests_want_is_not_made_by_hand() -> None:
    wanted = {(s["metadata"]["namespace"], s["spec"]["target"]["name"]) for s in of_kind("staging", "ExternalSecret")}
    for _, name in wanted:
        assert re.search(rf"create secret [\w-]+ {name}\b|/{name}\b", BLOCKS), name
    for secret in of_kind("staging", "ExternalSecret"):
        for key in [datum["secretKey"] for datum in secret["spec"]["data"] if not datum["secretKey"].startswith(".")]:
            assert re.search(rf"--from-(literal|file)={key}=", BLOCKS), key


def test_the_page_installs_another_chart_than_the_values_are_for() -> None:
    assert set(re.findall(r"dagster/dagster --version (\S+)", PAGE)) == set(
        re.findall(r"dagster/dagster --version (\S+)", (HELM / "values.yaml").read_text())
    )


def test_a_label_of_the_page_is_one_that_no_policy_knows() -> None:
    told = set(re.findall(r"(llmops\.dev/(?:gateway|monitoring|storage))=true", PAGE))
    policies = str(of_kind("staging", "NetworkPolicy"))
    assert told == {"llmops.dev/gateway", "llmops.dev/monitoring", "llmops.dev/storage"}
    assert all(label in policies for label in told)
    one("staging", "Gateway", "models")
