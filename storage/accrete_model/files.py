"""The files of a model version, by name, and the number of their form.

Shapes: N images, C classes, d feature length, G golden inputs, H hold-out examples.
"""

SCHEMA = 1
"""Number of the form that model.json and manifest.json name. A release reads its own alone."""

MODEL_FILE = "model.json"
"""The `ModelCard`, which says what the version is."""
GRAPH_FILE = "graph.onnx"
"""The backbone as ONNX, from "input" [N, *input shape] to "features" float32 [N, d]. A version that refers to a frozen
backbone (`ModelCard.frozen`) has no such file: the graph is in `BACKBONES_FOLDER`."""
WEIGHTS_FILE = "weights.safetensors"
"""The backbone's weights by their names in the network, for a next step and for the PyTorch engine; a version that
refers to a frozen backbone has none."""
HEAD_FILE = "head.safetensors"
"""The tensors of one of `rules.HEADS`, the classes' mean features `means` [C, d], and what only a next step reads."""
RULE_FILE = "rule.safetensors"
"""The tensors of one of `rules.FITTED`; a version with another rule has no such file."""
GOLDEN_FILE = "golden.safetensors"
"""`input` [G, *input shape], and the `features` [G, d] and `probabilities` [G, C] that the trainer computed for it. The
`input` of a version that refers to a frozen backbone is in the backbone's file of that name, with the same features."""
STATISTICS_FILE = "statistics.safetensors"
"""What a closed-form method keeps of all examples so far; only a next step reads it."""
HOLDOUT_FILE = "holdout.safetensors"
"""`nearness` [H] of the hold-out's examples to the classes, ascending; written when a candidate is measured."""
MANIFEST_FILE = "manifest.json"
"""SHA-256 and size of every other file; written when the version is published."""

BACKBONES_FOLDER = "backbones"
"""Beside the folder of versions, so that a version's files are DATA_DIR/versions/vNUMBER and its frozen backbone's are
DATA_DIR/backbones/DIGEST: the graph, its golden features, and backbone.json. See `accrete_model.frozen`."""
