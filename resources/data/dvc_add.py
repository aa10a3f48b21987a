"""A program that makes a file of one clone a version of data: `dvc add`, its objects into another clone's cache and to
its remote.

DVC runs in this process of its own, as in `resources/data/dvc_pull.py`. It reads
`{"clone": …, "path": …, "repository": …}` from stdin: the clone has the file at `path` and its working tree changes;
the repository has the cache and the settings of the remote, whose relative addresses hold there. A file in a tracked
folder changes that folder's pointer, without needing the folder's other files (DVC's virtual directories). Prints
`{"pointer": <path of the changed .dvc file>, "remote": <name, or null where the repository has none>}`. Exit statuses
are those of dvc_pull.
"""

import json
import logging
import os
import sys
from hashlib import md5
from pathlib import Path
from typing import Any

from resources.data.dvc_pull import MEND, addressed


def main() -> int:
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.add import add
    from dvc_data.hashfile.hash_info import HashInfo

    request: dict[str, Any] = json.load(sys.stdin)
    clone = Path(request["clone"])
    try:
        repository = Repo(request["repository"])
        # DVC keeps notes of every clone it ever saw beside the system's files; those of this one go with it
        core = {"autostage": False, "site_cache_dir": str(clone / ".dvc" / "tmp" / "site")}
        settings = {"cache": {"dir": repository.cache.local_cache_dir}, "core": core}
        logging.getLogger("dvc").setLevel(logging.WARNING)  # its advice for people would go to stdout
        stage = add(Repo(str(clone), config=settings), str(clone / request["path"]))[0]
        remote = stage.outs[0].remote or repository.config["core"].get("remote")
        if remote:
            # of a folder its listing and the one new file: the others were pushed when they were added
            new = HashInfo("md5", md5((clone / request["path"]).read_bytes(), usedforsecurity=False).hexdigest())
            place = addressed(repository.cloud.get_remote_odb(remote))
            repository.cloud.push([new, *(out.hash_info for out in stage.outs)], remote=remote, odb=place)
        json.dump({"pointer": Path(stage.path).relative_to(clone.resolve()).as_posix(), "remote": remote}, sys.stdout)
    except (DvcException, PermissionError, NoCredentialsError, PartialCredentialsError) as error:
        sys.stderr.write(f"\n{type(error).__name__}: {' '.join(str(error).split())}\n")
        return MEND
    return 0


if __name__ == "__main__":
    os.environ["DVC_NO_ANALYTICS"] = "1"
    sys.exit(main())
