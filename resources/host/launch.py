"""The first thing a supervised program is: read a file, become the command that stands in it.

supervisord keeps commands and variables in an INI file with two layers of quoting, percent expansion and comments
inside values. Arguments and secrets therefore travel in a JSON file that only its owner may read, and supervisord
sees this launcher alone. Run as `python -I -S launch.py FILE` (no site packages: it costs about 15 ms).
"""

import json
import os
import sys

CANNOT_START = 127


def main(path: str) -> None:
    with open(path, encoding="utf-8") as stream:  # noqa: PTH123 (pathlib would double the start-up time)
        program = json.load(stream)
    try:
        os.chdir(program["directory"])
        os.execvpe(program["command"][0], program["command"], {**os.environ, **program["environment"]})  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"cannot start {program['command'][0]} in {program['directory']}: {error}\n")
        sys.exit(CANNOT_START)


if __name__ == "__main__":
    main(sys.argv[1])
