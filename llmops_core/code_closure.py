"""Which code a recipe really is: its module, every project module it imports, the files that lie beside these, and the
packages that any of them needs.

Read from source text as data (`ast`), never imported: the revision under review is not trusted to run here. The
result changes exactly when a file that the recipe can reach changes, so that editing one recipe does not retrain the
models of another.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterable
from threading import Lock

from llmops_core.errors import InputError, Problem
from llmops_core.fingerprint import digest_of_bytes

PROJECT_PACKAGES = ("recipes", "llmops_core")
# Python 3.11 counts its parser's depth for all threads together, and fails when two parse at once.
_PARSING = Lock()
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_NEEDED_BY = re.compile(r"^ {4}#(?: via|  ) ([A-Za-z0-9._-]+)")
# Packages that are imported under another name. A name missing here is not overlooked: it counts as the whole lock.
_DISTRIBUTIONS = {"yaml": "pyyaml"}
WHOLE_LOCK = "requirements"


def closure(
    module: str, read: Callable[[str], bytes | None], beside: Callable[[str], Iterable[str]]
) -> tuple[dict[str, str], set[str]]:
    """({path: SHA-256} of every project file the module reaches, names of the other packages they import).

    `read` gives a file's bytes at the revision, or None; `beside` the paths of all files in a folder. A package's
    `__init__.py` runs when anything of it is imported, and a file that is no Python (a template, a word list) may be
    read by any module of its folder, so both count. Raises InputError when the module itself is not there or a file is
    not Python.
    """
    files: dict[str, str] = {}
    packages: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path, content = _find(name, read)
        if path in files:
            continue
        if content is None:
            if name == module:
                raise InputError(Problem(path, "", "no such file", "a recipe", f"recipe {module} does not exist"))
            continue
        files[path] = digest_of_bytes(content)
        if package := path.removesuffix("/__init__.py").rpartition("/")[0]:
            waiting.append(package.replace("/", "."))
        for imported in _imports(path, content):
            (waiting.append if imported.split(".")[0] in PROJECT_PACKAGES else packages.add)(imported)
    for folder in {path.rpartition("/")[0] for path in files}:
        read_by_them = (path for path in beside(folder) if not path.endswith(".py"))
        files |= {path: digest_of_bytes(read(path) or b"") for path in read_by_them}
    return files, {name.split(".")[0] for name in packages}


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
    """The file of a module: `a.b` may also be a name inside module `a`, or a package."""
    path = module.replace(".", "/")
    for candidate in (f"{path}.py", f"{path}/__init__.py", f"{path.rpartition('/')[0]}.py"):
        if (content := read(candidate)) is not None:
            return candidate, content
    return f"{path}.py", None


def _imports(path: str, content: bytes) -> list[str]:
    try:
        with _PARSING:
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(Problem(path, "", str(error), "a Python module", "cannot be parsed")) from error
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (module := _absolute(path, node)):
            names.append(module)
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


def _absolute(path: str, node: ast.ImportFrom) -> str:
    """The module that a `from … import` names, relative ones seen from the file at `path`."""
    folders = path.split("/")[: -node.level] if node.level else []
    return ".".join([*folders, *([node.module] if node.module else [])])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
