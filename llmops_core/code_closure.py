"""Which code a recipe really is: its module, every project module it imports, and the packages these name.

Read from source text as data (`ast`), never imported: the revision under review is not trusted to run here. The
result changes exactly when a file that the recipe can reach changes, so that editing one recipe does not retrain the
models of another.
"""

import ast
import re
from collections.abc import Callable
from threading import Lock

from llmops_core.errors import InputError, Problem
from llmops_core.fingerprint import digest_of_bytes

PROJECT_PACKAGES = ("recipes", "llmops_core")
# Python 3.11 counts its parser's depth for all threads together, and fails when two parse at once.
_PARSING = Lock()
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")


def closure(module: str, read: Callable[[str], bytes | None]) -> tuple[dict[str, str], set[str]]:
    """({path: SHA-256} of every project file the module reaches, names of the other packages they import).

    `read` gives a file's bytes at the revision, or None. Raises InputError when the module itself is not there or a
    file is not Python.
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
        for imported in _imports(path, content):
            (waiting.append if imported.split(".")[0] in PROJECT_PACKAGES else packages.add)(imported)
    return files, {name.split(".")[0] for name in packages}


def locked_versions(lock: bytes, packages: set[str]) -> dict[str, str]:
    """{package: version} of those imported names that the lock pins; names that it does not pin are left out."""
    wanted = {_normal(name) for name in packages}
    pins = (match.groups() for line in lock.decode().splitlines() if (match := _PIN.match(line)))
    return {_normal(name): version for name, version in pins if _normal(name) in wanted}


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
