"""What containers printed, line by line with the time of each, as long as their pod exists."""

import threading
from collections import defaultdict

from tests.fakes.kubernetes_clock import Clock, parsed

Line = tuple[str, str]  # stamp, text


class Logs:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: dict[tuple[str, str], list[Line]] = defaultdict(list)
        self._previous: dict[tuple[str, str], list[Line]] = {}
        self._closed: set[tuple[str, str]] = set()
        self.changed = threading.Condition()

    def say(self, uid: str, container: str, text: str) -> None:
        with self.changed:
            self._lines[uid, container].append((self._clock.fine_stamp(), text))
            self.changed.notify_all()

    def close(self, uid: str, container: str) -> None:
        """The container ended: whoever follows has read all."""
        with self.changed:
            self._closed.add((uid, container))
            self.changed.notify_all()

    def restart(self, uid: str, container: str) -> None:
        with self.changed:
            self._previous[uid, container] = self._lines.pop((uid, container), [])
            self._closed.discard((uid, container))

    def after(self, uid: str, container: str, position: int) -> tuple[list[Line], bool]:
        """The lines from a position on, and whether more may come. Call with `changed` held to wait."""
        with self.changed:
            return self._lines[uid, container][position:], (uid, container) not in self._closed

    def previous(self, uid: str, container: str) -> list[Line] | None:
        return self._previous.get((uid, container))


def shown(lines: list[Line], timestamps: bool) -> bytes:
    return "".join(f"{stamp} {text}\n" if timestamps else f"{text}\n" for stamp, text in lines).encode()


def chosen(lines: list[Line], since: float | None, tail: int | None) -> list[Line]:
    """`since` in seconds of the epoch, to the second as the API takes it: lines of that second are sent again."""
    kept = [line for line in lines if since is None or parsed(line[0]) >= since]
    return kept if tail is None else kept[max(len(kept) - tail, 0) :] if tail else []
