"""The frozen backbone that the configuration names, without torch."""

from pathlib import Path

from accrete_learner.backbone_names import EFFICIENTNET, ONNX
from accrete_learner.config import IDENTITY, ModelConfig
from accrete_model.frozen import FrozenBackbone, efficientnet_lite0, identity, onnx_file


def frozen_backbone(model: ModelConfig) -> FrozenBackbone:
    """Return the frozen backbone that `model` names.

    Raises:
        ValueError: it names one that has to be trained, or that cannot be built: the message names the setting, its
            value and what to do.
    """
    if model.backbone == IDENTITY:
        return identity.build(model.embedding)
    if model.backbone == EFFICIENTNET:
        weights = Path(model.weights).expanduser() if model.weights else None
        try:
            return efficientnet_lite0.build(model.input_size, model.channels, weights)
        except efficientnet_lite0.WeightsError as error:
            raise ValueError(f"model.weights = {model.weights!r}: {error}") from error
    if model.backbone.startswith(ONNX):
        return onnx_file.build(onnx_file.path_of(model.backbone), _form(model))
    raise ValueError(
        f"model.backbone = {model.backbone!r}: has to be trained; those that bring their weights are {EFFICIENTNET}, "
        f"identity and {ONNX}FILE"
    )


def _form(model: ModelConfig) -> onnx_file.OnnxForm:
    return onnx_file.OnnxForm(
        input_size=model.input_size,
        channels=model.channels,
        layout=model.layout,
        channel_order=model.channel_order,
        mean=model.mean,
        std=model.std,
        outputs=model.outputs,
        tokens=model.tokens,
    )
