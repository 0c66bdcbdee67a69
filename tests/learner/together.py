"""Every method's steps by one process, by two ranks and by three, and how far apart what they learn is, as JSON lines.

`python tests/learner/together.py`: three processes for all of it, as importing torch takes longer. All numbers are
float64, for in float32 a rounding that falls on another side of a kink grows. It says nothing where a group's ranks
disagree about anything; see test_ranks.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from accrete_kit.parent_death import end_with_parent
from accrete_learner import methods
from accrete_learner.backbones import Backbone
from accrete_learner.config import MethodConfig, Selection, TrainingConfig
from accrete_learner.method_names import available
from accrete_learner.method_step import StepInputs, StepOutcome, run_method_step
from accrete_learner.methods.base import Method
from accrete_learner.ranks import ALONE, Group
from accrete_learner.ranks.joining import joined
from accrete_learner.ranks.local_exchange import LocalExchange
from accrete_learner.rebalance import BiasCorrection, InSequence, Rebalance

#: Examples of each class that come for a step: single ones, very unequal ones, a class that comes back, and numbers
#: that neither two nor three ranks can share evenly.
STEPS = ({0: 9, 1: 1, 2: 6}, {3: 6, 0: 2, 4: 1})
TRAINING = TrainingConfig(base_epochs=1, epochs=1, copies=1, batch_size=7, learning_rate=0.05)


class Small(nn.Module):
    """A network with what ranks must agree on: batch normalisation, and a convolution that strides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


def cases(only: str = "") -> Iterator[tuple[str, Method]]:
    """Each method, each way of choosing exemplars, and what else a step may be asked for."""
    for name in available():
        yield name, configured(name)
    for selection in get_args(Selection):
        yield f"lucir+{selection}", configured("lucir", selection=selection)
    yield "lucir, weight transfer", configured("lucir", weight_transfer=True)
    yield "lucir, knee", configured("lucir", replace(TRAINING, schedule="knee", base_epochs=3, epochs=3))
    yield "foster, knee", configured("foster", replace(TRAINING, schedule="knee", base_epochs=3, epochs=3))
    # One of three ranks has no image of a batch then.
    yield "lucir, batches of two", configured("lucir", replace(TRAINING, batch_size=2))
    for augmentation in ("strong", "trivial"):
        yield f"lucir, {augmentation}", configured("lucir", replace(TRAINING, augmentation=augmentation))


def configured(name: str, training: TrainingConfig = TRAINING, **choices: object) -> Method:
    config = MethodConfig(name=name, synthesis_iterations=2, random_features=100, **choices)  # type: ignore[arg-type]
    method = methods.configured(config, training)
    return replace(method, rebalance=calibrated(method.rebalance))


def calibrated(rebalance: Rebalance) -> Rebalance:
    """Three examples that two numbers tell apart have no best two numbers, so more are left out of training."""
    if isinstance(rebalance, InSequence):
        return InSequence(parts=tuple(map(calibrated, rebalance.parts)))
    return replace(rebalance, calibration_share=0.9) if isinstance(rebalance, BiasCorrection) else rebalance


def examples(counts: Mapping[int, int], seed: int) -> tuple[Tensor, Tensor]:
    y = torch.tensor([label for label, count in counts.items() for _ in range(count)])
    noise = torch.randint(200, (len(y), 8, 8, 1), generator=torch.Generator().manual_seed(seed))
    return (noise + 8 * y[:, None, None, None]).to(torch.uint8), y


def steps(method: Method, group: Group) -> list[StepOutcome]:
    """Both steps, each from what the one before left."""
    torch.manual_seed(1)
    network = Small().to(memory_format=torch.channels_last)
    backbone = Backbone(network, 8, (8, 8, 1), torch.tensor([0.5]), torch.tensor([0.25]))
    kept: list[Tensor] = []
    made: list[StepOutcome] = []
    for number, counts in enumerate(STEPS, start=1):
        x, y = examples(counts, number)
        each = torch.tensor([len(own) for own in kept], dtype=torch.int64)
        inputs = StepInputs(
            backbone=backbone,
            parent_head={**made[-1].head.export(), "means": made[-1].means} if made else None,
            class_count=3 if number == 1 else 5,
            new_x=x,
            new_y=y,
            exemplar_x=torch.cat([x[:0], *kept]),
            exemplar_y=torch.arange(len(kept)).repeat_interleave(each),
            per_class=3,
            pretrained=method.closed_form is not None,
            statistics=(made[-1].statistics or None) if made else None,
        )
        generator = torch.Generator().manual_seed(number)
        made.append(run_method_step(inputs, method, progress=lambda *_: None, generator=generator, group=group))
        kept = [made[-1].exemplars[label].x if label in made[-1].exemplars else x[:0] for label in range(3)]
    return made


def numbers(outcome: StepOutcome) -> dict[str, Tensor]:
    """All that a step leaves."""
    found = {f"backbone.{name}": value for name, value in outcome.backbone.state_dict().items()}
    found |= {f"head.{name}": value for name, value in outcome.head.export().items()}
    found |= {f"statistics.{name}": value for name, value in outcome.statistics.items()}
    found |= {f"rule.{name}": value for name, value in outcome.rule_tensors.items()}
    for label, own in outcome.exemplars.items():
        found |= {f"exemplars.{label}.x": own.x, f"exemplars.{label}.source": own.source}
    found |= {"means": outcome.means, "losses": torch.tensor(outcome.losses)}
    return {name: value.detach().double() for name, value in found.items()}


def apart(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """The largest difference; infinite where they are of different shapes."""
    if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in second.items()}:
        return float("inf")
    return max(float((first[name] - second[name]).abs().max()) for name in first if first[name].numel())


def compare(rank: int, local: LocalExchange) -> None:
    """Two ranks tell each other by memory that they share, as on one machine, and three over the network."""
    two_of_them: Any = distributed.new_group([0, 1])  # on the third rank, a number that says it is none of them
    three = Group(rank, 3)
    for name, method in cases():
        # The third rank is the one process meanwhile.
        first = ALONE if rank == 2 else Group(rank, 2, two_of_them, local)
        ours = [[numbers(step) for step in steps(method, group)] for group in (first, three)]
        everybodys: list[Any] = [None] * 3
        distributed.all_gather_object(everybodys, ours)
        if rank == 0:
            alone = everybodys[2][0]
            differences = {
                "2": most(everybodys[:2], 0, alone),
                "3": most(everybodys, 1, alone),
            }
            print(json.dumps({"case": name, "differences": differences}), flush=True)


def most(everybodys: list[Any], which: int, alone: list[dict[str, Tensor]]) -> float:
    return max(apart(step, one) for ours in everybodys for step, one in zip(ours[which], alone, strict=True))


def main() -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    listener = socket.create_server(("127.0.0.1", 0))
    address, here, rank = f"127.0.0.1:{listener.getsockname()[1]}", os.getpid(), 0
    local = LocalExchange(2)
    for other in (1, 2):
        if not os.fork():
            end_with_parent(here, by=signal.SIGKILL)
            rank = other
            break
    if rank:
        listener.close()
    if rank < local.size:
        local.join(rank)
    with joined(rank, 3, address, listener=None if rank else listener):
        compare(rank, local)


if __name__ == "__main__":
    main()
