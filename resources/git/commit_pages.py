"""The page that shows a commit, told from the address a repository was cloned from."""

import re
from urllib.parse import urlsplit

# where a commit is shown below the project's own address, by the label of the host that says whose software it is
COMMIT_PAGES = {"github": "commit", "gitlab": "-/commit", "gitea": "commit", "codeberg": "commit"}


def commit_page(origin: str, revision: str) -> str | None:
    """The web page of a commit at hosts that run known software. Credentials in the address are dropped."""
    short = re.fullmatch(r"(?:[^@/\s]+@)?([\w.-]+):(?!//)([^\s]+)", origin)  # git@host:owner/project.git
    try:
        url = urlsplit(f"ssh://{short[1]}/{short[2]}" if short else origin)
        port = f":{url.port}" if url.port and url.scheme == "https" else ""
    except ValueError:
        return None
    project = url.path.strip("/").removesuffix(".git")
    if url.scheme not in ("https", "http", "ssh", "git") or not url.hostname or not project:
        return None
    page = next((page for label, page in COMMIT_PAGES.items() if label in url.hostname.split(".")), None)
    return f"https://{url.hostname}{port}/{project}/{page}/{revision}" if page else None
