"""Which settings rule: the file of an environment as it stands, or, where a commit broke it, as it stood before.

A platform that follows a branch must not end because of one commit: whoever broke the file may have gone home, and what
serves is watched and mended by the same platform. So the last version that can rule does. That the newest cannot is
said by whoever asks for that alone: the repository sensor, which releases nothing meanwhile, and `llmops doctor`.
"""

from dataclasses import replace
from pathlib import Path

from llmops_core.errors import InputError, Problem
from llmops_core.pods import unfit_for_pods
from llmops_core.settings import Settings, load_settings
from resources.git.ruling_files import RulingFiles, Version, ruling_files
from resources.home import Home


def ruling_settings(home: Home, newest_only: bool = False) -> Settings:
    """The newest settings that can rule where `home` is; with `newest_only` none but the newest.

    Raises InputError where they cannot, with the commit that broke them, TransientError where their repository cannot
    be cloned.
    """
    ruling, path = ruling_files(home), f"config/{home.environment}.yaml"
    broken: InputError | None = None
    for version in ruling.versions(path) if "/" not in home.environment else ():
        try:
            return _fit(home, version, path)
        except InputError as error:
            broken = broken or InputError(*(_with_commit(problem, version) for problem in error.problems))
            if newest_only:
                break
    raise broken or _no_such_environment(home, ruling, path)


def _fit(home: Home, version: Version, path: str) -> Settings:
    if version.content is None:
        expected = f"the settings of {home.environment}"
        back = f"git show {version.revision[:12]}^:{path} > {path}"
        message = f"the commit took them away, and nothing is released: `{back}`, commit, push"
        raise InputError(Problem(path, "", version.lacks, expected, message))
    settings = load_settings(version.content, path)
    if home.origin is not None and (unfit := unfit_for_pods(settings, home.origin.branch or "", path)):
        raise InputError(*unfit)
    return settings


def _with_commit(problem: Problem, version: Version) -> Problem:
    at = f" in commit {version.revision[:12]}" if version.revision else ""
    return replace(problem, file=f"{problem.file}{at}")


def _no_such_environment(home: Home, ruling: RulingFiles, path: str) -> InputError:
    known = [Path(name).stem for name in ruling.names("config") if name.endswith(".yaml")]
    expected, message = f"one of: {', '.join(known) or 'none'}", f"{path} does not exist in {ruling.place}"
    return InputError(Problem("environment", "LLMOPS_ENVIRONMENT", home.environment, expected, message))
