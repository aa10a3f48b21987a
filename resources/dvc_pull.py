"""A program that brings objects from a DVC remote into the local DVC cache, or looks whether they are there.

DVC runs in this process of its own: importing it takes about half a second, and its configuration, credentials and
logging stay here. It reads `{"repository": …, "objects": [{"md5": …, "remote": null}], "look_only": false}` from stdin
and prints `{"cache": <folder of the objects>}`. What is still not in that folder afterwards is on no remote. With
`look_only` it brings nothing and prints `{"missing": [md5, …]}`, which no remote has. Exit status 0 done,
MEND: the configuration or credentials must be mended; any other, a crash's too: the remote could not be reached. The
last line of stderr says why.
"""

import json
import os
import sys
from collections import defaultdict
from typing import Any

MEND = 3


def main() -> int:
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo

    request: dict[str, Any] = json.load(sys.stdin)
    by_remote: defaultdict[str | None, list[HashInfo]] = defaultdict(list)
    for wanted in request["objects"]:
        by_remote[wanted["remote"]].append(HashInfo("md5", wanted["md5"]))
    try:
        repo = Repo(request["repository"])
        missing: list[str] = []
        for remote, objects in by_remote.items():
            wanted = [each.value for each in objects if each.value]
            place = repo.cloud.get_remote_odb(remote)
            if not request["look_only"]:
                _refuse_silence(place, [md5 for md5 in wanted if not repo.cache.local.exists(md5)])
                repo.cloud.pull(objects, remote=remote)
                continue
            found = set(place.oids_exist(wanted))
            absent = [md5 for md5 in wanted if md5 not in found]
            _refuse_silence(place, absent)
            missing += absent
        json.dump({"missing": missing} if request["look_only"] else {"cache": repo.cache.local.path}, sys.stdout)
    except (DvcException, PermissionError, NoCredentialsError, PartialCredentialsError) as error:
        sys.stderr.write(f"\n{type(error).__name__}: {' '.join(str(error).split())}\n")
        return MEND
    return 0


def _refuse_silence(place: Any, absent: list[str]) -> None:
    """Raises what the host answered, or that it did not, where DVC takes every failure over HTTP for a missing file."""
    if absent and place.fs.protocol in ("http", "https"):
        place.fs.fs.exists(place.oid_to_path(absent[0]), strict=True)


if __name__ == "__main__":
    os.environ["DVC_NO_ANALYTICS"] = "1"
    sys.exit(main())
