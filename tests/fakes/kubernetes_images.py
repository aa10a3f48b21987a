"""An image that cannot be pulled, in the kubelet's words: the state in which the container waits, and the events."""

from dataclasses import dataclass

AGAIN_SECONDS = 10.0


@dataclass(frozen=True)
class Trouble:
    """`events` are (reason, message, is a warning)."""

    reason: str
    message: str
    events: tuple[tuple[str, str, bool], ...]
    again_seconds: float = AGAIN_SECONDS


def trouble_with(image: str, policy: str, first: bool) -> Trouble:
    """The first failure tells why; those after it that the kubelet waits before it tries again."""
    if policy == "Never":
        said = f'Container image "{image}" is not present with pull policy of Never'
        told = (("ErrImageNeverPull", said, True), ("Failed", "Error: ErrImageNeverPull", True))
        return Trouble("ErrImageNeverPull", said, told)
    why = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
    error = f"rpc error: code = NotFound desc = {why}"
    if first:
        told = (
            ("Pulling", f'Pulling image "{image}"', False),
            ("Failed", f'Failed to pull image "{image}": {error}', True),
            ("Failed", "Error: ErrImagePull", True),
        )
        return Trouble("ErrImagePull", error, told, 1.0)
    back = f'Back-off pulling image "{image}"'
    told = (("BackOff", back, False), ("Failed", "Error: ImagePullBackOff", True))
    return Trouble("ImagePullBackOff", f"{back}: ErrImagePull: {error}", told)
