"""The client of Accrete, the model server that learns new classes while it serves.

    from accrete import Client

    with Client("127.0.0.1:50051") as client:
        report = client.add_folder("photos/")  # one folder per label
        client.wait_learned(report.ids, timeout=600)
        print(client.predict("photo.jpg").label)

`AsyncClient` has the same calls for asyncio. All errors are `AccreteError`. Only grpcio, protobuf and numpy are needed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._exports import *  # noqa: F403
    from ._exports import __all__ as __all__


def __getattr__(name: str) -> Any:
    """Load all public names with the first of them, so that the command line shows its help without gRPC and numpy."""
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _exports

    names = {"__all__": _exports.__all__, **{public: getattr(_exports, public) for public in _exports.__all__}}
    globals().update(names)
    if name not in names:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return names[name]


def __dir__() -> list[str]:
    __getattr__("__all__")
    return sorted(globals())
