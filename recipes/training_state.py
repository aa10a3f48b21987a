"""A training under way as tensors and numbers, and back: whatever the next step's result depends on.

The frozen weights, the rows and the schedule are inputs and are read again. Of the data stream only a count is needed,
since its order follows from the seed; so do the random numbers of each step (training_loop.draw_anew).
"""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer

from recipes.checkpoints import State
from recipes.training_report import Trained

PLAIN = ("tokens", "seconds", "steps_not_taken", "diverged_at_step")  # figures of Trained that JSON holds
OWN = ("documents", "worse", "quick", "passes")


@dataclass
class Underway:
    """What changes from step to step.

    `quick` is the choice of the loss, made once in the first step; `passes` in how many parts a step is computed.
    """

    weights: dict[str, nn.Parameter]
    optimiser: Optimizer
    trained: Trained = field(default_factory=Trained)
    documents: int = 0
    worse: int = 0
    quick: bool | None = None
    passes: int = 1
    resumed_at: list[int] = field(default_factory=list)

    def capture(self) -> State:
        """Copies, so that training may go on while they are written."""
        tensors = {f"weight.{name}": _copy(weight) for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            for key, value in self.optimiser.state.get(weight, {}).items():
                tensors[f"optimiser.{name}.{key}"] = _copy(value)
        tensors["losses"] = torch.tensor(self.trained.losses, dtype=torch.float64)
        figures = {name: getattr(self.trained, name) for name in PLAIN}
        own = {name: getattr(self, name) for name in OWN}
        return State(len(self.trained.losses), tensors, {**figures, **own, "resumed_at": self.resumed_at})

    def restore(self, state: State) -> None:
        """Become what was captured."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state.tensors[f"weight.{name}"])
        known: dict[int, dict[str, torch.Tensor]] = {}
        for number, name in enumerate(self.weights):
            start = f"optimiser.{name}."
            values = {key.removeprefix(start): value for key, value in state.tensors.items() if key.startswith(start)}
            if values:  # none before the first step that was taken
                known[number] = values
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": known})
        self.trained = Trained(state.tensors["losses"].tolist(), **{name: state.figures[name] for name in PLAIN})
        for name in OWN:
            setattr(self, name, state.figures[name])
        self.resumed_at = [*state.figures["resumed_at"], state.step]


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
