"""Settings that a process must have before it loads torch."""

import os


def be_a_good_neighbour() -> None:
    """Threads that wait shall sleep, not spin.

    OpenMP reads this once, when torch is loaded. Spinning costs nothing on idle cores, but as soon as another process
    needs one of two cores, each waits out the other's time slice: a step of 190 ms then took 1100 ms.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
