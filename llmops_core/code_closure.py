"""Which code a recipe really is: its module, every module of the repository that it imports, the data files that lie
beside or below these, and the packages that any of them needs.

Read from source text as data (`ast`), never imported: the revision under review is not trusted to run here. The
result changes exactly when a file that the recipe can reach changes, so that editing one recipe does not retrain the
models of another.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from threading import Lock

from llmops_core.errors import InputError, Problem
from llmops_core.fingerprint import digest_of_bytes

# Folders whose files other than Python are read by the platform itself, or by nobody.
_NO_CODE = ("config/", "data/", "docs/", "models/")
_NO_CODE_ENDINGS = (".md", ".pyi", ".dvc", "dvc.lock", "dvc.yaml", ".gitignore")
# Python 3.11 counts its parser's depth for all threads together, and fails when two parse at once: ours wait for each
# other, and a try that somebody else's parsing spoilt is repeated.
_PARSING = Lock()
PARSE_ATTEMPTS = 20
FILES_KEPT = 512
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_NEEDED_BY = re.compile(r"^ {4}#(?: via|  ) ([A-Za-z0-9._-]+)")
# Packages that are imported under another name. A name missing here is not overlooked: it counts as the whole lock.
_DISTRIBUTIONS = {"yaml": "pyyaml"}
WHOLE_LOCK = "requirements"


def may_be_code(path: str) -> bool:
    """Whether a recipe may consist of this file, told from its path alone: all Python, and data files in folders. A
    file beside a module at the top of the repository, as the README is, is none."""
    if path.endswith(".py"):
        return True
    return "/" in path and not path.startswith((*_NO_CODE, ".")) and not path.endswith(_NO_CODE_ENDINGS)


def closure(
    module: str, read: Callable[[str], bytes | None], below: Callable[[str], Iterable[str]]
) -> tuple[dict[str, str], set[str]]:
    """({path: SHA-256} of every file of the repository that the module reaches, names of the other packages).

    `read` gives a file's bytes at the revision, or None; `below` the paths of all files in a folder and its folders. A
    package's `__init__.py` runs when anything of it is imported, and a file that is no Python (a template, a word list)
    may be read by any module above it, so both count. Raises InputError when the module itself is not there or a file
    is not Python.
    """
    files: dict[str, str] = {}
    elsewhere: set[str] = set()
    here: dict[str, bool] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if top not in here:
            here[top] = any(True for _ in below(top)) or read(f"{top}.py") is not None
        path, content = _find(name, read) if here[top] else (f"{top}.py", None)
        if name == module and (content is None or not path.startswith(module.replace(".", "/"))):
            raise InputError(Problem(path, "", "no such file", "a recipe", f"recipe {module} does not exist"))
        if path in files:
            continue
        if content is None:
            elsewhere.add(top)
            continue
        files[path] = digest_of_bytes(content)
        if package := path.removesuffix("/__init__.py").rpartition("/")[0]:
            waiting.append(package.replace("/", "."))
        waiting += _imports(path, content)
    for path in _data_files(set(files), below):
        files[path] = digest_of_bytes(read(path) or b"")
    return files, elsewhere - {path.partition("/")[0].removesuffix(".py") for path in files}


def _data_files(reached: set[str], below: Callable[[str], Iterable[str]]) -> set[str]:
    """What lies beside or below modules and is no Python, but not below a package that none of them imports."""
    folders = {path.rpartition("/")[0] for path in reached} - {""}
    found: set[str] = set()
    for top in {folder.partition("/")[0] for folder in folders}:
        paths = list(below(top))
        packages = {path.rpartition("/")[0] for path in paths if path.endswith("/__init__.py")}
        for path in paths:
            if not path.endswith(".py") and may_be_code(path) and _owner(path, folders | packages) in folders:
                found.add(path)
    return found


def _owner(path: str, folders: set[str]) -> str:
    """The nearest of the folders around a file; empty without one."""
    while (path := path.rpartition("/")[0]) and path not in folders:
        pass
    return path


def locked_versions(lock: bytes, imported: Iterable[str]) -> dict[str, str]:
    """{package: version} of the packages imported under these names, and of those that they need in turn.

    `lock` is uv's, with its notes of who needs what. An import that is neither Python's own nor found in the lock could
    be any of its packages, so it adds the whole lock under WHOLE_LOCK.
    """
    versions, needs = _parse_lock(lock)
    found: dict[str, str] = {}
    waiting = [_normal(_DISTRIBUTIONS.get(name, name)) for name in imported if name not in sys.stdlib_module_names]
    if any(name not in versions for name in waiting):
        found[WHOLE_LOCK] = digest_of_bytes(lock)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += needs.get(name, ())
            found |= {name: versions[name]} if name in versions else {}
    return found


def _parse_lock(lock: bytes) -> tuple[dict[str, str], dict[str, set[str]]]:
    """({package: version}, {package: those that it needs}); a package with several versions, chosen by machine, has
    them all."""
    versions: dict[str, str] = {}
    needs: dict[str, set[str]] = {}
    package = ""
    for line in lock.decode(errors="replace").splitlines():
        if match := _PIN.match(line):
            package, version = _normal(match[1]), match[2]
            versions[package] = f"{versions[package]} {version}" if package in versions else version
        elif match := _NEEDED_BY.match(line):
            needs.setdefault(_normal(match[1]), set()).add(package)
    return versions, needs


def _find(module: str, read: Callable[[str], bytes | None]) -> tuple[str, bytes | None]:
    """The file of a module: `a.b` may also be a name inside module `a`. Of a package and a module of one name Python
    takes the package."""
    path = module.replace(".", "/")
    around = path.rpartition("/")[0]
    for place in (path, around) if around else (path,):
        for candidate in (f"{place}/__init__.py", f"{place}.py"):
            if (content := read(candidate)) is not None:
                return candidate, content
    return f"{path}.py", None


def _tree(content: bytes) -> ast.Module:
    for _ in range(PARSE_ATTEMPTS - 1):
        with suppress(SystemError), _PARSING:
            return ast.parse(content)
    with _PARSING:
        return ast.parse(content)


@lru_cache(maxsize=FILES_KEPT)
def _imports(path: str, content: bytes) -> tuple[str, ...]:
    """Recipes share most of their modules, and a revision most of its files with the one before."""
    try:
        tree = _tree(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(Problem(path, "", str(error), "a Python module", "cannot be parsed")) from error
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (module := _absolute(path, node)):
            names.append(module)
            names += [f"{module}.{alias.name}" for alias in node.names]
    return tuple(names)


def _absolute(path: str, node: ast.ImportFrom) -> str:
    """The module that a `from … import` names, relative ones seen from the file at `path`."""
    folders = path.split("/")[: -node.level] if node.level else []
    return ".".join([*folders, *([node.module] if node.module else [])])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
