"""The chain from a running endpoint back to the commit, as links that are each verified, broken or incomplete.

The walk follows the digests inside the facts (production -> version -> evaluation -> weights -> base, data). It needs
no trust in names, times or order: a fact is found by the digest that a later fact names. Whether the bytes still have
these digests is measured elsewhere and reported here as links.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from llmops_core.errors import IntegrityError
from llmops_core.facts import Fact

LinkVerdict = Literal["verified", "broken", "incomplete"]
EXIT_CODES: dict[LinkVerdict, int] = {"verified": 0, "broken": 1, "incomplete": 2}


@dataclass(frozen=True)
class Link:
    """One step of the chain. `detail` names what was compared, with paths and digests, for a person to follow."""

    name: str
    verdict: LinkVerdict
    detail: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def verdict_of(links: Iterable[Link]) -> LinkVerdict:
    """Broken if any link is; verified only if every link is and there is at least one."""
    verdicts = {link.verdict for link in links}
    if "broken" in verdicts:
        return "broken"
    return "verified" if verdicts == {"verified"} else "incomplete"


def first_not_verified(links: Sequence[Link]) -> Link | None:
    """The first broken link; failing that, the first incomplete one."""
    for wanted in ("broken", "incomplete"):
        for link in links:
            if link.verdict == wanted:
                return link
    return None


def ancestry(facts: Sequence[Fact], start: Fact) -> dict[str, Fact]:
    """{stage: fact} of everything `start` was made from, nearest first. Raises IntegrityError when a digest that a
    fact names was never produced, or two facts of one stage are both claimed."""
    by_digest = {(f.subject, f.body.get("digest")): f for f in facts if f.kind == "produced"}
    found = {start.subject: start}
    waiting = [start]
    while waiting:
        fact = waiting.pop(0)
        for stage, digest in sorted(fact.body["inputs"].items()):
            origin = by_digest.get((stage, digest))
            if origin is None:
                raise IntegrityError(f"{fact.subject} was made from {stage} {digest[:12]}, which was never recorded")
            # data may be read at several versions: rows to train on and rows to judge by change independently
            name = f"{stage} of {fact.subject}" if stage == "dataset" else stage
            known = found.get(name)
            if known is None:
                found[name] = origin
                waiting.append(origin)
            elif known.body["digest"] != digest:
                raise IntegrityError(
                    f"{fact.subject} rests on {stage} {digest[:12]}, the rest of this release does not"
                )
    return found
