"""`python -m recipes.parallel --standalone --nproc-per-node=2 -m recipes.finetune …`: one recipe on several GPUs.

Takes torchrun's own arguments. Started as torchrun itself, every failure would end with code 1; a recipe's codes mean
something (llmops_core/exit_codes.py), and its last line says what. So the code of the process that explains the ends of
the others is handed on, and torchrun's own report of it is left out.
"""

import logging
import sys
from typing import cast

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import parse_args, run

from llmops_core.exit_codes import SIGNALS_FROM, TRY_AGAIN, blames_a_peer
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
        return TRY_AGAIN
    except ChildFailedError as error:
        failures = cast("dict[int, ProcessFailure]", error.failures)
        ends = [(failure.timestamp, _code(failure)) for failure in failures.values()]
        return min(ends, key=lambda end: (blames_a_peer(end[1]), end[0]))[1]
    return 0


def _code(failure: ProcessFailure) -> int:
    return failure.exitcode if failure.exitcode > 0 else SIGNALS_FROM - failure.exitcode


if __name__ == "__main__":
    sys.exit(main())
