"""Where torchvision's weights come from, read from its sources: importing it would import torch."""

import ast
import importlib.util
import os
from pathlib import Path


def addresses(backbone: str) -> dict[str, str]:
    """Return the addresses of a torchvision model's weights by their names, `DEFAULT` among them; {} for no such model.

    They are those of `torchvision.models.get_model_weights(backbone)`.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return {}
    for source in sorted((Path(spec.origin).parent / "models").glob("*.py")):
        text = source.read_text(encoding="utf-8")
        if f"def {backbone}(" in text:
            return _addresses(ast.parse(text), backbone)
    return {}


def cached(address: str, cache: Path) -> Path | None:
    """Return where a file was downloaded to before, into the user's own cache or that in the folder `cache`, if it was.

    Args:
        address: of the file.
        cache: what TORCH_HOME is for the process that would download it.
    """
    user = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "torch"
    files = (home / "hub" / "checkpoints" / address.rpartition("/")[2] for home in (user, cache))
    return next((file for file in files if file.is_file()), None)


def _addresses(module: ast.Module, backbone: str) -> dict[str, str]:
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == backbone]
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    for function in functions:
        for argument in (*function.args.args, *function.args.kwonlyargs):
            if argument.arg == "weights" and argument.annotation is not None:
                names = {node.id for node in ast.walk(argument.annotation) if isinstance(node, ast.Name)}
                for name in names & classes.keys():
                    return _members(classes[name])
    return {}


def _members(weights: ast.ClassDef) -> dict[str, str]:
    """Return the `url` of each member of a WeightsEnum; a member may also be another name of one."""
    found: dict[str, str] = {}
    for node in weights.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        if isinstance(node.value, ast.Name):
            found[name] = found[node.value.id]
        elif isinstance(node.value, ast.Call):
            (url,) = (word.value for word in node.value.keywords if word.arg == "url")
            found[name] = ast.literal_eval(url)
    return found
