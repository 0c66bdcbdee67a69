"""Builds the backbone of a configuration once, in a process of its own, to tell what is wrong with its weights or form.

`python -m accrete_learner.check_backbone CONFIG`, with the fields of a `ModelConfig` as JSON; exit status 2 and a line
on standard output when it cannot be built.
"""

import json
import sys

from accrete_learner.backbone_names import is_frozen
from accrete_learner.config import ModelConfig

_CANNOT = 2


def main(config: str) -> int:
    """Build the backbone and return the exit status."""
    model = ModelConfig(**json.loads(config))
    try:
        if is_frozen(model.backbone):
            from accrete_learner.frozen_backbone import frozen_backbone

            frozen_backbone(model)
        else:
            from accrete_learner.backbones import build  # brings torch

            build(model)
    except (ValueError, OSError, RuntimeError) as error:
        print(" ".join(str(error).split()))
        return _CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
