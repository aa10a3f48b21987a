"""What the exit code of a recipe, and of the program around it in a pod, says: who acts. This is the only table.

    0    it is done
    65   the input is wrong: its author mends it, and the same input is never tried again
    69   this place lacks something (a package, a GPU, access to the store): whoever runs it mends that
    75   nobody's fault: asked to end, or a service did not answer; it may go on later
    76   bytes are not what they were: a person must look
    128+ ended by the signal 128 less
    else it crashed; 1 is how Python ends at an exception that nobody expected

The numbers are those of sysexits.h (DATAERR, UNAVAILABLE, TEMPFAIL, PROTOCOL). Python's own 1 blames nobody: a process
whose peer died ends with it too, and a fault of the program is not one of its input.
"""

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, Interrupted, LlmopsError, TransientError

ERROR_OF_INPUT, ENVIRONMENT_LACKS, TRY_AGAIN, INTEGRITY_BROKEN = 65, 69, 75, 76
EXCEPTION = 1
SIGNALS_FROM, TERMINATED, KILLED = 128, 143, 137

_CODES: tuple[tuple[type[LlmopsError], int], ...] = (
    (InputError, ERROR_OF_INPUT),
    (EnvironmentLacks, ENVIRONMENT_LACKS),
    (IntegrityError, INTEGRITY_BROKEN),
    (TransientError, TRY_AGAIN),
    (Interrupted, TRY_AGAIN),
)


def exit_code_of(error: LlmopsError) -> int:
    """The code with which a program ends that this error stopped."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), EXCEPTION)


def blames_a_peer(code: int) -> int:
    """Sorts the ends of processes that work together, the one that explains the others first: who gives a reason
    explains everybody's end, who was killed or crashed its peers' exceptions, and who was asked to end nobody's."""
    if code in (ERROR_OF_INPUT, ENVIRONMENT_LACKS, INTEGRITY_BROKEN):
        return 0
    if code in (TRY_AGAIN, TERMINATED):
        return 3
    return 2 if code == EXCEPTION else 1
