"""Where annotated files arrive, and what becomes of them: one entry of `arrivals` in a config/<environment>.yaml."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from llmops_core import uris
from llmops_core.fields import FileName, ModelName, Strict, Text, Violation, refuse
from llmops_core.platform_settings import Region
from llmops_core.training_spec import EndpointUrl

S3 = "s3://"


def _fault_of_folder(text: str) -> str | None:
    return "the path holds . or .." if {".", ".."} & set(text.split("/")) else None


_FOLDER = Text(r"^(/[A-Za-z0-9_.+=@-]+)+$", "an absolute path, such as /srv/annotations", 255, _fault_of_folder)


def _place(text: str) -> str:
    if not text.startswith(S3):
        return _FOLDER.check(text)
    try:
        uris.parse_s3(text)
    except uris.UnsafeUri as error:
        context = {"message": f"the address is refused: {error}", "expected": "s3://bucket/prefix"}
        raise PydanticCustomError("text", "{message}", context) from error
    return text


PlaceName = Annotated[str, Text(r"^[a-z][a-z0-9_]*$", "lower-case letters, digits and _, a letter first", 40)]


class WatchedPlace(Strict):
    """A folder or S3 prefix; the files that arrive there become rows of one file of one model's data."""

    name: PlaceName = Field(description="Name of the place; the sensor arrivals_<name> watches it.")
    place: Annotated[str, Field(min_length=2, max_length=1024), AfterValidator(_place)] = Field(
        description="A folder's absolute path, or s3://bucket/prefix."
    )
    endpoint: EndpointUrl | None = Field(default=None, description="The store's address where it is not AWS.")
    region: Region | None = Field(default=None, description="The store's region.")
    model: ModelName = Field(description="The model whose data gets the rows.")
    into: FileName = Field(description="The file under the model's data.path that gets them, such as feedback.jsonl.")
    settle_seconds: float = Field(
        default=30, ge=1, le=86400, description="A file is taken when it did not change for so long."
    )
    merge: Literal["review", "automatic"] = Field(
        default="review", description="Whether the new version waits for a person, or goes to the environment's branch."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        broken: list[Violation] = []
        if not self.in_bucket:
            message = "a folder has no such field; remove it, or watch an s3:// address"
            for field in ("endpoint", "region"):
                if (given := getattr(self, field)) is not None:
                    broken.append(Violation((field,), given, "no such field with a folder", message))
        if not self.into.endswith(".jsonl"):
            message = "rows are kept in JSON Lines; name such a file"
            broken.append(Violation(("into",), self.into, "a name that ends in .jsonl", message))
        refuse(broken)
        return self

    @property
    def in_bucket(self) -> bool:
        return self.place.startswith(S3)


def names_taken_twice(places: Sequence[WatchedPlace]) -> list[Violation]:
    """Names are those of sensors and branches, so each place needs its own."""
    names = [place.name for place in places]
    message = "another place has this name; rename one"
    return [
        Violation(("arrivals", index, "name"), name, "a name of its own", message)
        for index, name in enumerate(names)
        if name in names[:index]
    ]
