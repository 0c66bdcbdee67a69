"""The gradient of a trained model's loss with respect to its training inputs, by differentiating through training.

Sources: Maclaurin et al., Gradient-based Hyperparameter Optimization through Reversible Learning (ICML 2015), for
pixels as the variables; Finn et al., Model-Agnostic Meta-Learning (ICML 2017), for the first-order variant's idea;
Shaban et al., Truncated Back-propagation for Bilevel Optimization (AISTATS 2019), for stopping early.

Shapes: K inner steps; a batch is inputs [N, ...] and labels [N]. All numbers keep their type.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from accrete_learner.ranks import ALONE, Group, Shard

Weights = Mapping[str, Tensor]
"""A model's parameters by name."""

Batch = tuple[Tensor, Tensor]
"""Inputs [N, ...] and labels [N]."""

Loss = Callable[[Weights, Tensor, Tensor], Tensor]
"""The mean loss, a scalar, of the model with these weights on a batch. It must be twice differentiable and
deterministic."""


@dataclass(frozen=True, kw_only=True)
class Unroll:
    """How the inner training runs and how it is differentiated.

    Raises:
        ValueError: when `truncate` is not positive.
    """

    rate: float
    """Step length of the inner gradient descent, without momentum."""
    order: Literal["second", "first"] = "second"
    """`first` leaves out how an inner step's gradient changes with the weights that it starts from (the Hessian), and
    so the effect of an input on later steps. Each step is taken to move the final weights by what it moved its own. How
    the gradient changes with the inputs stays, because without it they would have no gradient at all."""
    truncate: int | None = None
    """How many steps, from the last, are differentiated. The inputs of earlier ones get gradients of 0. None: all."""
    checkpoint: bool = True
    """Run each step again when the backward pass comes to it. This takes memory for one step's graph and K sets of
    weights in place of K graphs, and about a third more time. The result is the same."""

    def __post_init__(self) -> None:
        if self.truncate is not None and self.truncate < 1:
            raise ValueError(f"truncate = {self.truncate}: must be 1 or more, or None")


def hypergradient(
    loss: Loss, weights: Weights, inner: Sequence[Batch], outer: Batch, unroll: Unroll, group: Group = ALONE
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss on `outer` of the model trained on `inner`, and its gradient with respect to the inner inputs.

    With w_0 = `weights`, w_k+1 = w_k - rate * dL(w_k; x_k)/dw for the K batches x_k of `inner`, the loss is
    L(w_K; outer), and backwards from a = dL(w_K; outer)/dw, for k from K - 1 down:

        gradient in x_k = - rate * d<dL(w_k; x_k)/dw, a>/dx_k
        a               = a - rate * d<dL(w_k; x_k)/dw, a>/dw_k   (not in the first-order variant)

    Args:
        loss: of both levels.
        weights: where the inner training starts. They are neither changed nor differentiated.
        inner: one batch per step. The caller differentiates what made its inputs, with
            `torch.autograd.backward(inputs, gradients)`.
        outer: the batch of the outer loss, a constant.
        unroll: how the inner training runs and is differentiated.
        group: each of whose ranks computes a share of every batch.

    Returns:
        The outer loss, a scalar, and K gradients, each of its batch's inputs' shape; all detached.
    """
    kept = len(inner) if unroll.truncate is None else min(unroll.truncate, len(inner))
    first = len(inner) - kept
    current: Weights = {name: value.detach() for name, value in weights.items()}
    starts: list[Weights] = []
    graphs: list[_Graph] = []
    for position, batch in enumerate(inner):
        differentiable = position >= first and not unroll.checkpoint
        graph = _inner_graph(loss, current, batch, group, differentiable=differentiable)
        if position >= first:
            starts.append(current)
            if not unroll.checkpoint:
                graphs.append(graph)
        current = _descended(current, graph, unroll.rate)
    reached, adjoint = _outer(loss, current, outer, group)
    gradients = [torch.zeros_like(x) for x, _ in inner[:first]]
    backwards: list[Tensor] = []
    for position in reversed(range(kept)):
        if unroll.checkpoint:
            graph = _inner_graph(loss, starts.pop(), inner[first + position], group, differentiable=True)
        else:
            graph = graphs.pop()
        in_inputs, adjoint = _back(graph, adjoint, unroll)
        backwards.append(in_inputs)
    return reached, gradients + backwards[::-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Graph:
    """One inner step with its leaves and the inner gradient, which is a function of them where that is asked for."""

    weights: Weights
    inputs: Tensor
    """That of this rank's share of the loss. The sum over the ranks is the inner gradient."""
    gradient: dict[str, Tensor]
    shard: Shard


def _share_of(loss: Loss, weights: Weights, inputs: Tensor, labels: Tensor, shard: Shard) -> Tensor:
    """Return what a rank's examples add to the mean loss of all."""
    if shard.group.size == 1:
        return loss(weights, inputs, labels)
    return loss(weights, inputs, labels) * (shard.own_count / shard.count)


def _taken(batch: Batch, shard: Shard) -> Batch:
    """Return the rank's examples of a batch, or the first one, which then counts nothing, where it has none."""
    rows = shard.rows if shard.own_count else slice(1)
    return batch[0][rows], batch[1][rows]


def _inner_graph(loss: Loss, weights: Weights, batch: Batch, group: Group, *, differentiable: bool) -> _Graph:
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    shard = group.shard(len(batch[1]))
    own, labels = _taken(batch, shard)
    inputs = own.detach().requires_grad_(differentiable)
    with torch.enable_grad():
        gradient = torch.autograd.grad(
            _share_of(loss, leaves, inputs, labels, shard),
            list(leaves.values()),
            create_graph=differentiable,
            materialize_grads=True,
        )
    return _Graph(weights=leaves, inputs=inputs, gradient=dict(zip(leaves, gradient, strict=True)), shard=shard)


def _descended(weights: Weights, graph: _Graph, rate: float) -> Weights:
    gradient = _of_all([graph.gradient[name].detach() for name in weights], graph.shard.group)
    return {name: value.detach() - rate * own for (name, value), own in zip(weights.items(), gradient, strict=True)}


def _of_all(own: Sequence[Tensor], group: Group) -> list[Tensor]:
    """Return the sums of each rank's tensors."""
    if group.size == 1:
        return list(own)
    total = [tensor.clone() for tensor in own]
    group.add_up(*total)
    return total


def _outer(loss: Loss, weights: Weights, batch: Batch, group: Group) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the outer loss and its gradient with respect to the weights."""
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    shard = group.shard(len(batch[1]))
    own, labels = _taken(batch, shard)
    with torch.enable_grad():
        reached = _share_of(loss, leaves, own.detach(), labels, shard)
        gradient = torch.autograd.grad(reached, list(leaves.values()), materialize_grads=True)
    total, *of_weights = _of_all([reached.detach(), *gradient], group)
    return total, dict(zip(leaves, of_weights, strict=True))


def _back(graph: _Graph, adjoint: dict[str, Tensor], unroll: Unroll) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the outer gradient with respect to a step's inputs and to the weights before it, from that after it."""
    # A weight that the loss does not see, or sees linearly and apart from all else, has a gradient without a graph.
    names = [name for name, value in graph.gradient.items() if value.requires_grad]
    shard = graph.shard
    if not names:
        return shard.gather(torch.zeros_like(graph.inputs[: shard.own_count])), adjoint
    wanted = [graph.inputs, *(graph.weights.values() if unroll.order == "second" else ())]
    in_inputs, *in_weights = torch.autograd.grad(
        [graph.gradient[name] for name in names],
        wanted,
        grad_outputs=[adjoint[name] for name in names],
        materialize_grads=True,
    )
    if unroll.order == "second":
        changes = zip(adjoint.items(), _of_all(in_weights, shard.group), strict=True)
        adjoint = {name: value - unroll.rate * change for (name, value), change in changes}
    return -unroll.rate * shard.gather(in_inputs[: shard.own_count]), adjoint
