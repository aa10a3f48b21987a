"""What DVC tracks at a revision: `*.dvc` files, `dvc.lock` and directory listings, read as untrusted text.

These files come from whoever may push a branch. Their YAML is turned into text, lists and mappings only (a hash of
digits stays text), with bounds on bytes, nesting and values, and without aliases, which DVC never writes here. Paths
must stay inside the repository; hashes must be MD5 as DVC 3 computes it. DVC's MD5 finds an object and corruption; it
does not stop an attacker, so what is fetched is named by SHA-256 afterwards.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import md5
from typing import Any, cast

import yaml

from llmops_core.errors import InputError, IntegrityError, Problem
from llmops_core.tree_path import checked_path, checked_paths

LIMIT_BYTES = 64 * 2**20
LIMIT_DEPTH = 32
LIMIT_VALUES = 2_000_000

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True)
class DataPointer:
    """One output: `md5` exactly as DVC wrote it (`….dir` for a folder), None sizes where DVC recorded none.

    `declared_in` is the file that says so, `remote` the remote that this output alone names.
    """

    path: str
    md5: str
    size_bytes: int | None
    nfiles: int | None
    declared_in: str
    remote: str | None = None

    @property
    def is_dir(self) -> bool:
        return self.md5.endswith(".dir")


@dataclass(frozen=True)
class ListedFile:
    """A file of a tracked folder: `path` relative to that folder."""

    path: str
    md5: str


def parse_dvc_file(content: bytes, file: str) -> tuple[DataPointer, ...]:
    """The outputs of one `*.dvc` file at path `file`. Raises InputError with every problem found."""
    root = _mapping(_read_yaml(content, file), file, "")
    folder = posixpath.join(posixpath.dirname(file), str(root.get("wdir", "")))
    return _pointers([("outs", folder, root.get("outs", []))], file)


def parse_dvc_lock(content: bytes, file: str, wdirs: Mapping[str, str]) -> tuple[DataPointer, ...]:
    """The outputs of all stages in a `dvc.lock` at path `file`; `wdirs` says which stages work in a folder of theirs.

    Raises InputError with every problem found.
    """
    root = _mapping(_read_yaml(content, file), file, "")
    if root.get("schema") != "2.0":
        raise InputError(Problem(file, "schema", repr(root.get("schema")), "2.0", "run `dvc repro` with DVC 3"))
    stages = _mapping(root.get("stages", {}), file, "stages")
    listed: list[tuple[str, str, Any]] = []
    for name, stage in stages.items():
        folder = posixpath.join(posixpath.dirname(file), wdirs.get(name.partition("@")[0], ""))
        outs = _mapping(stage, file, f"stages.{name}").get("outs", [])
        listed.append((f"stages.{name}.outs", folder, outs))
    return _pointers(listed, file)


def stage_wdirs(content: bytes, file: str) -> dict[str, str]:
    """{stage: its wdir} of a `dvc.yaml`, for stages that have one: dvc.lock's paths are relative to it.

    A dvc.yaml may use aliases; it is only read when the word stands in it, and then aliases are refused.
    """
    if b"wdir" not in content:
        return {}
    stages = _mapping(_mapping(_read_yaml(content, file), file, "").get("stages", {}), file, "stages")
    wdirs: dict[str, str] = {}
    for name, stage in stages.items():
        fields = _mapping(stage, file, f"stages.{name}")
        wdir = _mapping(fields.get("do", fields), file, f"stages.{name}").get("wdir", "")
        if not isinstance(wdir, str) or "${" in wdir:
            message = "write the folder out; it is read without running DVC"
            raise InputError(Problem(file, f"stages.{name}.wdir", repr(wdir), "a plain folder", message))
        wdirs[name] = wdir
    return wdirs


def parse_listing(content: bytes, pointer: DataPointer) -> tuple[ListedFile, ...]:
    """The files of a tracked folder. Raises IntegrityError unless the listing is the one that `pointer` names."""
    found = md5(content, usedforsecurity=False).hexdigest()
    if f"{found}.dir" != pointer.md5:
        raise IntegrityError(f"the listing of {pointer.path} should have MD5 {pointer.md5}, but has {found}.dir")
    try:
        items = cast(list[dict[str, Any]], json.loads(content))
        checked_paths(item["relpath"] for item in items)
        files = tuple(ListedFile(item["relpath"], _checked_md5(item["md5"], False)) for item in items)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise IntegrityError(f"the listing {pointer.md5} of {pointer.path} is refused: {error}") from None
    return files


def locate(pointers: Mapping[str, DataPointer], path: str) -> tuple[DataPointer, str] | None:
    """The output that is or contains `path`, and the rest of the path inside it ("" for the output itself)."""
    inside, outer = "", path
    while outer:
        if outer in pointers and (not inside or pointers[outer].is_dir):
            return pointers[outer], inside
        outer, _, last = outer.rpartition("/")
        inside = f"{last}/{inside}" if inside else last
    return None


def selected(files: Iterable[ListedFile], inside: str) -> tuple[ListedFile, ...]:
    """The files at or below `inside`, with paths relative to it (a single file keeps its own name)."""
    if not inside:
        return tuple(files)
    kept: list[ListedFile] = []
    for entry in files:
        if entry.path == inside:
            kept.append(ListedFile(posixpath.basename(inside), entry.md5))
        elif entry.path.startswith(f"{inside}/"):
            kept.append(ListedFile(entry.path[len(inside) + 1 :], entry.md5))
    return tuple(kept)


def _pointers(listed: list[tuple[str, str, Any]], file: str) -> tuple[DataPointer, ...]:
    found: list[DataPointer] = []
    problems: list[Problem] = []
    for field, folder, outs in listed:
        items = cast(list[Any], outs) if isinstance(outs, list) else [outs]
        for index, item in enumerate(items):
            try:
                output = _mapping(item, file, f"{field}[{index}]")
                if output.get("cache") != "false":  # else it stands in Git itself
                    found.append(_pointer(output, folder, file))
            except ValueError as error:
                expected = "an output as DVC 3 writes it"
                problems.append(Problem(file, f"{field}[{index}]", str(error), expected, "run `dvc commit` again"))
    if problems:
        raise InputError(*problems)
    return tuple(found)


def _pointer(output: Mapping[str, Any], folder: str, file: str) -> DataPointer:
    path = output.get("path")
    if not isinstance(path, str) or "://" in path or path.startswith("/"):
        raise ValueError(f"path {path!r} is not below the repository")
    if output.get("hash") != "md5":
        raise ValueError(f"{path!r} has no field `hash: md5`, as DVC before 3.0 wrote it")
    remote = output.get("remote")
    return DataPointer(
        path=checked_path(posixpath.normpath(posixpath.join(folder, path))),
        md5=_checked_md5(output.get("md5"), True),
        size_bytes=_count(output, "size"),
        nfiles=_count(output, "nfiles"),
        declared_in=file,
        remote=remote if isinstance(remote, str) else None,
    )


def _checked_md5(value: object, folder_allowed: bool) -> str:
    if not isinstance(value, str) or not _MD5.fullmatch(value) or (value.endswith(".dir") and not folder_allowed):
        raise ValueError(f"{value!r} is no MD5")
    return value


def _count(output: Mapping[str, Any], field: str) -> int | None:
    value = output.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,18}", value):
        raise ValueError(f"{field} {value!r} is no count")
    return int(value)


def _mapping(value: Any, file: str, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(Problem(file, field, type(value).__name__, "a mapping", "is not as DVC writes it"))
    return cast(dict[str, Any], value)


def _read_yaml(content: bytes, file: str) -> Any:
    """Text, lists and mappings of a YAML document, read without recursion. Raises InputError."""
    if len(content) > LIMIT_BYTES:
        expected = f"at most {LIMIT_BYTES} bytes"
        raise InputError(Problem(file, "", f"{len(content)} bytes", expected, "the file is too large"))
    try:
        events = cast(Iterable[yaml.Event], cast(Any, yaml).parse(content, Loader=yaml.CSafeLoader))
        return _tree(events)
    except (yaml.YAMLError, ValueError) as error:
        found = " ".join(str(error).split())[:200]
        raise InputError(Problem(file, "", found, "YAML as DVC writes it", "cannot be read")) from None


def _tree(events: Iterable[yaml.Event]) -> Any:
    """Fold the parser's events into values with a stack of its own, so that nesting costs no Python frames."""
    around: list[dict[str, Any] | list[Any]] = []  # the collections being filled
    keys: list[str | None] = []  # for each of them, the key whose value comes next
    roots: list[Any] = []
    count = 0
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            around.pop()
            keys.pop()
        if not isinstance(event, yaml.NodeEvent):
            continue
        count += 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise ValueError("aliases and anchors are not allowed")
        if count > LIMIT_VALUES or len(around) > LIMIT_DEPTH or len(roots) > 1:
            raise ValueError(f"more than one document, {LIMIT_VALUES} values or {LIMIT_DEPTH} levels")
        parent = around[-1] if around else roots
        if isinstance(parent, dict) and keys[-1] is None:
            keys[-1] = _key(event, parent)
            continue
        value = _value(event)
        if isinstance(parent, list):
            parent.append(value)
        else:
            parent[str(keys[-1])] = value
            keys[-1] = None
        if isinstance(event, yaml.CollectionStartEvent):
            around.append(value)
            keys.append(None)
    if len(roots) != 1:
        raise ValueError(f"{len(roots)} documents")
    return roots[0]


def _value(event: yaml.NodeEvent) -> Any:
    if isinstance(event, yaml.ScalarEvent):
        return event.value
    return {} if isinstance(event, yaml.MappingStartEvent) else []


def _key(event: yaml.NodeEvent, mapping: dict[str, Any]) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise ValueError("a key is no text")
    key = str(event.value)
    if key in mapping:
        raise ValueError(f"the key {key!r} stands there twice")
    return key
