"""Who may approve in which role: one file of the trusted configuration, never read from the change under review.

    approvers:
      ada@example.com:
        staging: [technical]
        production: [technical, security]

Identities are the principals of the allowed_signers file beside it, so a person needs a key there and a role here.
"""

from typing import Annotated

from pydantic import ValidationError

from llmops_core.errors import InputError
from llmops_core.fields import Label, Listing, Strict, Text
from llmops_core.problems import problems_of
from llmops_core.strict_yaml import load

# One person, not a pattern: allowed_signers may hold `*@example.com`, which is nobody in particular.
Identity = Annotated[str, Text(r"[^\s*?!,\"]+", "one principal of allowed_signers, without * ? ! or commas", 254)]


class Approvers(Strict):
    """{identity: {environment: its roles there}}."""

    approvers: dict[Identity, dict[Label, Listing[Label]]]

    def roles_in(self, environment: str) -> dict[str, frozenset[str]]:
        """{identity: roles} of everyone who has any role in this environment."""
        return {
            identity: frozenset(roles[environment])
            for identity, roles in self.approvers.items()
            if roles.get(environment)
        }


def load_approvers(content: bytes, file: str) -> Approvers:
    """The approvers in a YAML or JSON file. Raises InputError with every problem found."""
    document = load(content, file)
    try:
        return Approvers.model_validate(document.mapping)
    except ValidationError as error:
        raise InputError(*problems_of(error, document, file, Approvers)) from error
