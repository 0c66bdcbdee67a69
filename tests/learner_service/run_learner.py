"""A learner in a process of its own, as `accrete learn` runs it, with the sizes of the tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from accrete_learner.config import DeepConfig, MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_learner_service.app import learn
from accrete_learner_service.config import GateConfig, LearnerServiceConfig, TriggerConfig
from accrete_node.log import set_up
from accrete_node.settings import LogConfig
from accrete_storage.config import HoldoutConfig, StoreConfig, TeachingConfig
from tests.support.forks import fork_trainers

HOLDOUT = HoldoutConfig(share=0.2, cap=10)
MEMORY: dict[str, Any] = {"kind": "per_class", "size": 5}
MODEL: dict[str, Any] = {"backbone": "resnet8", "input_size": 8, "channels": 1}


def config(options: dict[str, dict[str, Any]]) -> LearnerServiceConfig:
    """The tests' configuration with some sections' fields replaced."""
    trigger: dict[str, Any] = {"first_classes": 2, "min_examples": 20, "max_wait_s": 600, "settle_s": 0.3}
    training: dict[str, Any] = {"base_epochs": 2, "epochs": 1, "threads": 1, "augmentation": "none", "device": "cpu"}
    # No lowered priority: beside other tests it would only make this one long.
    learner: dict[str, Any] = {"metrics_port": 0, "lease_s": 3.0, "retry_s": 0.2, "nice": 0, "own_nice": 0}
    return LearnerServiceConfig(
        trigger=TriggerConfig(**(trigger | options.get("trigger", {}))),
        # One or two epochs teach little: what the gate does is tested where a test asks for it.
        gate=GateConfig(**({"enabled": False} | options.get("gate", {}))),
        method=MethodConfig(**({"name": "icarl"} | options.get("method", {}))),
        model=ModelConfig(**(MODEL | options.get("model", {}))),
        training=TrainingConfig(**(training | options.get("training", {}))),
        deep=DeepConfig(**options.get("deep", {})),
        memory=MemoryConfig(**(MEMORY | options.get("memory", {}))),
        teaching=TeachingConfig(**options.get("teaching", {})),
        **(learner | options.get("learner", {})),
    )


def run(data_dir: Path, store: StoreConfig, options: dict[str, dict[str, Any]]) -> None:
    """Be a learner until told to end. For a process that was forked."""
    os.dup2(os.open(data_dir / "learner.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    set_up(LogConfig(format="text"), "learner")
    fork_trainers()
    learn(config(options), store, HOLDOUT, data_dir)
