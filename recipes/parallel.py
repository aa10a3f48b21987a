"""`python -m recipes.parallel --standalone --nproc-per-node=2 -m recipes.finetune …`: one recipe on several GPUs.

Takes torchrun's own arguments. Started as torchrun itself, every failure would end with code 1; a recipe's codes mean
something (1: its input is wrong, 75: asked to stop, go on later), and its last line says what. So the code of the
process that failed first is handed on, and torchrun's own report of it is left out.
"""

import logging
import sys
from typing import cast

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import parse_args, run

from llmops_core.errors import Interrupted
from recipes.process import be_a_good_neighbour

TALKATIVE = (
    "torch.distributed.run",
    "torch.distributed.elastic.agent.server.api",
    "torch.distributed.elastic.multiprocessing.api",
    "torch.distributed.elastic.multiprocessing.errors",
)


def main(arguments: list[str] | None = None) -> int:
    be_a_good_neighbour()
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        run(parse_args(arguments))
    except SignalException:
        return Interrupted.exit_code
    except ChildFailedError as error:
        failures = cast("dict[int, ProcessFailure]", error.failures)
        code = min(failures.values(), key=lambda failure: failure.timestamp).exitcode
        return code if code > 0 else 128 - code
    return 0


if __name__ == "__main__":
    sys.exit(main())
