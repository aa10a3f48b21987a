"""Where an environment's parts live: databases, buckets and services, and its secrets only by reference.

Everything left out is the embedded default: SQLite and folders under the state folder. A secret is named, never
written: an environment variable or a file that the platform reads when it connects.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from llmops_core.fields import RelativePath, Strict, Text, Violation, refuse
from llmops_core.training_spec import EndpointUrl, S3Uri

EnvironmentVariable = Annotated[
    str, Text(r"^[A-Z][A-Z0-9_]*$", "the name of an environment variable, such as DAGSTER_PASSWORD", 128)
]
SecretPath = Annotated[str, Text(r"^(/[A-Za-z0-9_.-]+)+$", "the absolute path of a file, such as /run/secrets/x", 255)]
HostName = Annotated[
    str,
    Text(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", "the name or address of a host", 253),
]
Identifier = Annotated[str, Text(r"^[A-Za-z_][A-Za-z0-9_-]*$", "a name of letters, digits, _ and -", 63)]
Region = Annotated[str, Text(r"^[a-z0-9-]+$", "a region, such as eu-central-1", 32)]


class Secret(Strict):
    """Where a secret is read when it is needed."""

    env: EnvironmentVariable | None = Field(default=None, description="The environment variable that holds it.")
    file: SecretPath | None = Field(default=None, description="The file that holds it, such as a mounted secret.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.env is None) == (self.file is None):
            found = "neither" if self.env is None else "both"
            message = f"a secret's reference has {found} of env and file; give one"
            refuse([Violation((), found, "either env or file", message)])
        return self


class Postgres(Strict):
    """A PostgreSQL database."""

    host: HostName = Field(description="Host of the server.")
    port: int = Field(default=5432, ge=1, le=65535, description="Port of the server.")
    database: Identifier = Field(description="Name of the database.")
    user: Identifier = Field(description="User to connect as.")
    password: Secret = Field(description="Where the password is read.")


class Bucket(Strict):
    """A folder in an S3-compatible object store. Credentials come from the AWS chain: role, profile or environment."""

    uri: S3Uri = Field(description="The folder, as s3://bucket/prefix.")
    endpoint: EndpointUrl | None = Field(default=None, description="The store's address where it is not AWS.")
    region: Region | None = Field(default=None, description="The store's region.")


class MlflowServer(Strict):
    """A running MLflow tracking server."""

    url: EndpointUrl = Field(description="Address of the server.")
    token: Secret | None = Field(default=None, description="Where the access token is read, if it needs one.")


class Signing(Strict):
    """The key that says who registered a version, where several machines or pods are the platform together."""

    key: SecretPath = Field(description="The file with the private key (OpenSSH), such as a mounted secret.")
    signers: RelativePath = Field(
        description="Whose signatures count (ssh-keygen's allowed_signers): the key's public half, and former ones'."
    )


class Places(Strict):
    """Where the platform keeps what it must not lose."""

    ledger: Postgres | None = Field(default=None, description="The ledger of facts; SQLite if absent.")
    dagster: Postgres | None = Field(default=None, description="Dagster's storage; SQLite if absent.")
    mlflow: MlflowServer | None = Field(default=None, description="The registry; an embedded MLflow if absent.")
    mlflow_database: Postgres | None = Field(default=None, description="The embedded MLflow's; SQLite if absent.")
    dvc_remote: Bucket | None = Field(default=None, description="DVC's default remote, as .dvc/config names it too.")
    artifacts: Bucket | None = Field(default=None, description="Where artefacts go; the state folder if absent.")
    feedback: Bucket | None = Field(default=None, description="Where ratings go; the state folder if absent.")
    signing: Signing | None = Field(default=None, description="The platform's key; one of the state folder if absent.")

    @model_validator(mode="after")
    def _one_registry(self) -> Self:
        if self.mlflow is not None and self.mlflow_database is not None:
            message = "the MLflow server that `mlflow` names has a database of its own; remove one of the two"
            refuse([Violation(("mlflow_database",), self.mlflow_database.database, "nothing beside mlflow", message)])
        return self


class Webhook(Strict):
    """Whose pushes make the repository sensor look at once. A host without a secret here is not heard at all."""

    github: Secret | None = Field(default=None, description="Where the secret of GitHub's webhook is read.")
    gitlab: Secret | None = Field(
        default=None,
        description="Where GitLab's signing token (it begins with whsec_) or secret token is read.",
    )

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if self.github is None and self.gitlab is None:
            message = "a webhook without a secret hears nobody; name one, or remove the section"
            refuse([Violation((), None, "github or gitlab with a secret", message)])
        return self
