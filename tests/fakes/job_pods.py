"""Pods of the stand-in as a test plays them: they say what a recipe would, and publish what it would have made."""

import json
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from dagster_pipes import PipesS3MessageWriterChannel

from resources.jobs.job_pod import VARIABLE
from resources.jobs.job_transport import OUTPUT, JobStore
from resources.storage.object_store import NamedPlace
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.kubernetes_errors import ApiError


class PlayedPod:
    """The newest pod of a job. `place` is the exchange; what it sends uses no worker's client."""

    def __init__(self, api: KubernetesApi, pod: dict[str, Any], place: NamedPlace, scratch: Path) -> None:
        self.api, self.pod, self._scratch = api, pod, scratch
        told = {each["name"]: each.get("value", "") for each in pod["spec"]["containers"][0]["env"]}
        order = json.loads(told[VARIABLE])
        self.uid, self.attempt = pod["metadata"]["uid"], int(order["attempt"])
        self._store = JobStore(place, scratch / self.uid / "cache")
        self.records = self._store.job(order["fingerprint"])
        self._pieces = {"log": 0, "messages": 0}

    @property
    def phase(self) -> str:
        found = self.api.get("pods", self.pod["metadata"]["name"], self.pod["metadata"]["namespace"])
        return found["status"].get("phase", "") if found is not None else "gone"

    def prints(self, text: str) -> None:
        self._pieces["log"] += 1
        self.records.put_log(self.attempt, self.uid, self._pieces["log"], text.encode())

    def reports(self, done: int, total: int) -> None:
        self._pieces["messages"] += 1
        prefix = f"{self.records.pod_prefix(self.attempt, self.uid)}/messages"
        payload = {"progress": {"done": done, "total": total, "seconds_left": 1.0, "loss": 0.5}}
        message = {"method": "report_custom_message", "params": {"payload": payload}}
        channel = PipesS3MessageWriterChannel(self._store.client, self._store.bucket, prefix)
        channel.upload_messages_chunk(StringIO(json.dumps(message)), self._pieces["messages"])

    def publishes(self, files: dict[str, str]) -> None:
        folder = self._scratch / self.uid / "out"
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        self.records.publish_result({"folder": self._store.send(OUTPUT, folder), "attempt": self.attempt})

    def ends(self, exit_code: int = 0, reason: str = "", last_words: str = "", says: bool = True) -> None:
        """`says` is False for a pod that was killed before it could say anything."""
        if says:
            self.records.say(self.attempt, self.uid, {"exit_code": exit_code, "last_words": last_words})
        with suppress(LookupError, ApiError):  # it is gone meanwhile
            self.api.kubelet.end(self.pod, exit_code, reason)
