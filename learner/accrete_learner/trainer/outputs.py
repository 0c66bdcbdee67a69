"""Write what a step made, beside the version's own files."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from accrete_learner import export
from accrete_learner.memory.exemplars import SYNTHESISED, Exemplars

_GOLDEN_SEED = 0x676F6C64


def golden_examples(like: Tensor) -> Tensor:
    """Return made-up examples of the form of `like` [n, ...], on the CPU.

    A version's files outlive the examples that it was trained on, so they must not hold any. Images are smooth as
    pictures are, so that features are of the usual size. Vectors are normal, with the standard deviation of `like`.
    """
    generator = torch.Generator().manual_seed(_GOLDEN_SEED)
    if like.dim() != 4:
        deviation = float(like.float().std(correction=0)) if len(like) else 1.0
        return torch.randn(export.GOLDEN_EXAMPLES, *like.shape[1:], generator=generator) * (deviation or 1.0)
    height, width, channels = like.shape[1:]
    coarse = torch.rand(export.GOLDEN_EXAMPLES, channels, -(-height // 4), -(-width // 4), generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")
    grain = torch.rand(smooth.shape, generator=generator)
    return (255 * (0.8 * smooth + 0.2 * grain)).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def write_exemplars(path: Path, chosen: Mapping[int, Exemplars], *, like: Tensor, place: Tensor) -> None:
    """Write the exemplars that a step chose or made, in the form that the module `job` describes.

    Args:
        path: of the file.
        chosen: exemplars by class.
        like: [n, ...], whose form the file has when nothing was chosen.
        place: [m] int64, for each of the step's exemplars its place in inputs.safetensors, whose owner knows each
            example by it.

    Raises:
        OSError: when the file cannot be written.
    """
    labels = sorted(chosen)
    x = [chosen[label].x.cpu() for label in labels] or [like[:0].cpu()]
    source = [chosen[label].source.cpu() for label in labels] or [torch.empty(0, dtype=torch.int64)]
    counts = torch.tensor([len(chosen[label]) for label in labels], dtype=torch.int64)
    y = torch.tensor(labels, dtype=torch.int64).repeat_interleave(counts)
    tensors = {
        "x": torch.cat(x),
        "y": y,
        "source": _in_file(torch.cat(source), place.cpu()),
        "shown": _in_file(_shown([chosen[label] for label in labels]), place.cpu()),
    }
    export.write_tensors(path, tensors)


def _in_file(index: Tensor, place: Tensor) -> Tensor:
    """Return indices into the step's candidates as indices in the order of inputs.safetensors."""
    from_before = (index >= 0) & (index < len(place))
    moved = index.clone()
    moved[from_before] = place[index[from_before]]
    return moved


def _shown(chosen: list[Exemplars]) -> Tensor:
    """Return int64 [m, k] of the examples that each exemplar shows, filled up with SYNTHESISED."""
    shown = [torch.empty((len(own), 0), dtype=torch.int64) if own.shown is None else own.shown.cpu() for own in chosen]
    width = max((rows.shape[1] for rows in shown), default=0)
    wide = [F.pad(rows, (0, width - rows.shape[1]), value=SYNTHESISED) for rows in shown]
    return torch.cat(wide or [torch.empty((0, 0), dtype=torch.int64)])
