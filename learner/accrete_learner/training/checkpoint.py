"""Where a training run keeps how far it is, so that one that was killed goes on from there.

The file is in safetensors' format and holds all on which the rest of a run depends beside its arguments:

    network.NAME   the network's state, batch statistics included
    momentum.NAME  SGD's momentum of a parameter, where it has one
    average.*      the mean of the weights so far, where the schedule averages them
    random.*       the states of the run's generator and of torch's own, which dropout draws from
    losses         float64 [E], the mean loss of each epoch that is done
    seconds        float64, that these epochs took
    before.*       of a training that follows another one in the same step: all of the other, as it ended, but its
                   momentum
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from accrete_kit.atomic_file import write_bytes
from accrete_learner.training.sgd import Sgd
from accrete_learner.training.weight_average import WeightAverage


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """What changes from one epoch to the next."""

    network: nn.Module
    optimizer: Sgd
    generator: torch.Generator
    average: WeightAverage | None = None
    losses: list[float] = field(default_factory=list)
    """Mean loss of each epoch that is done. Their number is where the schedule stands."""

    def tensors(self) -> dict[str, Tensor]:
        """Return it as tensors on the CPU, by the names that the module describes."""
        found = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        found |= {
            f"momentum.{name}": self.optimizer.momentum[parameter]
            for name, parameter in self.network.named_parameters()
            if parameter in self.optimizer.momentum
        }
        if self.average is not None:
            found |= {f"average.{name}": value for name, value in self.average.state().items()}
        found |= {"random.run": self.generator.get_state(), "random.torch": torch.get_rng_state()}
        if self.generator.device.type == "cuda":
            found["random.cuda"] = torch.cuda.get_rng_state(self.generator.device)
        found["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        return {name: value.detach().cpu().contiguous() for name, value in found.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` returned in another process.

        Raises:
            ValueError: when these are of another training. Nothing has changed then.
        """
        parameters = dict(self.network.named_parameters())
        own = self.tensors()
        optional = {f"momentum.{name}": value for name, value in parameters.items()}
        if self.average is not None:
            means = {f"average.mean.{name}": value for name, value in parameters.items()}
            # All of them are there, or none while nothing has been averaged.
            own |= means if tensors.get("average.count", torch.tensor(0)).any() else {}
        for name in own.keys() | {name for name in tensors if name != "seconds"}:
            expected, found = own.get(name, optional.get(name)), tensors.get(name)
            if expected is None or found is None or (name != "losses" and found.shape != expected.shape):
                raise ValueError(f"{name} does not fit")
        self.network.load_state_dict(_under("network.", tensors))
        for name, value in _under("momentum.", tensors).items():
            # In the parameter's own order of memory, as the optimizer would have made it.
            parameter = parameters[name]
            self.optimizer.momentum[parameter] = torch.empty_like(parameter).copy_(value)
        if self.average is not None:
            self.average.load(_under("average.", tensors))
        self.generator.set_state(tensors["random.run"])
        torch.set_rng_state(tensors["random.torch"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.generator.device)
        self.losses[:] = tensors["losses"].tolist()


#: Of the names of what the training before left.
_BEFORE = "before."


class Checkpoint:
    """The file of one training run, or of two that follow each other.

    On a CPU, with as many threads, a run that goes on from it has the same bits as one that was never interrupted.
    """

    def __init__(self, path: Path, *, interval_s: float) -> None:
        """Keep the run in `path`, at the end of an epoch, once in `interval_s` seconds at most and after the last."""
        self.path = path
        self._interval_s = interval_s
        self._seconds_before = 0.0
        self._before: dict[str, Tensor] = {}
        """Of the training that this one follows."""
        self._following: Checkpoint | None = None
        self._started = self._written = time.monotonic()

    @property
    def seconds_before(self) -> float:
        """What the epochs took that were taken over from the file, those of a training that follows among them."""
        following = self._following
        return self._seconds_before + (0.0 if following is None else following.seconds_before)

    def following(self) -> "Checkpoint":
        """Return the checkpoint of the training that follows this one, which is over.

        It goes on in the same file, and the file keeps how this one ended. So a file is of both, or of this one alone
        while nothing of the other is worth keeping; who goes on from it begins with this one in either case.

        Raises:
            OSError: when the file cannot be read.
        """
        tensors = load_file(self.path)
        ended = _under(_BEFORE, tensors) or tensors
        self._following = Checkpoint(self.path, interval_s=self._interval_s)
        self._following._before = {
            _BEFORE + name: value for name, value in ended.items() if not name.startswith("momentum.")
        }
        return self._following

    def restore(self, state: TrainingState, epochs: int) -> None:
        """Bring a run of so many epochs to where the file is, if there is one.

        Raises:
            ValueError: when the file is of another training or damaged. The message names it.
            OSError: when it cannot be read.
        """
        self._started = self._written = time.monotonic()
        if not self.path.exists():
            return
        try:
            tensors = load_file(self.path)
            ended = _under(_BEFORE, tensors)
            if self._before and not ended:
                return  # it is of the training before alone
            over = bool(ended) and not self._before
            if over:
                tensors = ended
            else:
                tensors = {name: value for name, value in tensors.items() if not name.startswith(_BEFORE)}
            done = len(tensors.get("losses", ()))
            if done > epochs or (over and done != epochs):
                raise ValueError(f"it is {done} epochs old, the training has {epochs}")
            seconds = float(tensors["seconds"])
            state.load(tensors)
            self._seconds_before = seconds
        except (SafetensorError, ValueError, KeyError) as error:
            raise ValueError(
                f"{self.path} is no checkpoint of this training ({error}); without it, the training begins anew"
            ) from error

    def keep(self, state: TrainingState, *, last: bool) -> None:
        """Write the file, whole or not at all, if it is time or this was the last epoch.

        Raises:
            OSError: when it cannot be written. An older one is then still whole.
        """
        now = time.monotonic()
        if not last and now - self._written < self._interval_s:
            return
        seconds = torch.tensor(self._seconds_before + now - self._started, dtype=torch.float64)
        write_bytes(self.path, save({**state.tensors(), "seconds": seconds, **self._before}))
        self._written = time.monotonic()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
