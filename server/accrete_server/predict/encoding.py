"""From what was computed to the response of Predict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accrete.v1 import prediction_pb2
from accrete_model.vectors import highest
from accrete_server.predict.computing import Computed

ImagePrediction = prediction_pb2.PredictResponse.ImagePrediction


def predictions(computed: Computed, top_k: int, unknown: NDArray[np.bool_], *, features: bool) -> list[ImagePrediction]:
    """Ranked labels, whether it is `unknown` [N], and features when asked for, of each image."""
    ranks, best = highest(computed.probabilities, top_k)
    labels, provisional = computed.view.answers.labels, computed.view.answers.provisional[ranks]
    rows = zip(ranks.tolist(), best.tolist(), provisional.tolist(), strict=True)
    answers = [
        ImagePrediction(
            labels=[
                prediction_pb2.RankedLabel(label=labels[rank], probability=probability, provisional=is_new)
                for rank, probability, is_new in zip(*row, strict=True)
            ],
            unknown=is_unknown,
        )
        for row, is_unknown in zip(rows, unknown.tolist(), strict=True)
    ]
    if features:
        for answer, row in zip(answers, computed.features, strict=True):
            answer.features.extend(row.tolist())
    return answers
