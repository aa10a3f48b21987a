"""Paths that came from outside (a listing, a manifest, a Git tree) and will be joined to a folder of ours.

Such a path names a file below that folder and nothing else: relative, with forward slashes, without steps upwards,
and free of characters that terminals or other systems read as something else.
"""

from collections.abc import Iterable

MAXIMUM_CHARACTERS = 1024


def checked_path(text: object) -> str:
    """`text` when it names something strictly below any folder it is joined to. Raises ValueError saying why not."""
    if not isinstance(text, str) or not text:
        raise ValueError(f"{text!r} is no path")
    if len(text) > MAXIMUM_CHARACTERS:
        raise ValueError(f"{text[:40]!r}… is longer than {MAXIMUM_CHARACTERS} characters")
    if "\\" in text or not text.isprintable():
        raise ValueError(f"{text!r} holds a backslash or a character that cannot be shown")
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise ValueError(f"{text!r} is not a plain relative path")
    return text


def checked_paths(texts: Iterable[object]) -> tuple[str, ...]:
    """Paths that can stand side by side in one folder: none twice, and none below another one's file."""
    paths = tuple(checked_path(text) for text in texts)
    names = set(paths)
    if len(names) != len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(f"{twice!r} is named twice")
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in names:
                raise ValueError(f"{parent!r} is both a file and the folder of {path!r}")
            parent = parent.rpartition("/")[0]
    return paths
