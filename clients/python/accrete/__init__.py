"""The client of Accrete, the model server that learns new classes while it serves.

    from accrete import Client

    with Client("127.0.0.1:50051") as client:
        report = client.add_folder("photos/")  # one folder for each label
        client.wait_learned(report.ids, timeout=600)
        print(client.predict("photo.jpg").label)

Needs grpcio, protobuf and numpy. The same calls for asyncio: `AsyncClient`. All errors: `AccreteError`.
"""

from ._async_client import AsyncClient
from ._client import Client
from ._config import Retry, TlsConfig
from ._errors import (
    AccreteError,
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    IncompatibleServer,
    InternalError,
    InvalidInput,
    LimitExceeded,
    NoModel,
    NotFound,
    NotLearned,
    NotNow,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from ._events import (
    ClassForgotten,
    ClassProvisional,
    Event,
    ExamplesReviewed,
    PhaseChanged,
    Progress,
    StepFailed,
    StepRejected,
    Unrecognised,
    VersionActivated,
    VersionCommitted,
)
from ._inputs import Example, ExampleLike, ImageLike
from ._results import (
    Accuracy,
    Activation,
    AddReport,
    ClassInfo,
    DeleteReport,
    Discarded,
    ExampleResult,
    ForgetReport,
    HeldLabel,
    Prediction,
    RankedLabel,
    ReviewGroup,
    Status,
    Timings,
    VersionInfo,
)

__all__ = [
    "AccreteError",
    "Accuracy",
    "Activation",
    "AddReport",
    "AlreadyExists",
    "AsyncClient",
    "Cancelled",
    "ClassForgotten",
    "ClassInfo",
    "ClassProvisional",
    "Client",
    "DeadlineExceeded",
    "DeleteReport",
    "Discarded",
    "Event",
    "Example",
    "ExampleLike",
    "ExampleResult",
    "ExamplesReviewed",
    "ForgetReport",
    "HeldLabel",
    "ImageLike",
    "IncompatibleServer",
    "InternalError",
    "InvalidInput",
    "LimitExceeded",
    "NoModel",
    "NotFound",
    "NotLearned",
    "NotNow",
    "PermissionDenied",
    "PhaseChanged",
    "Prediction",
    "Progress",
    "RankedLabel",
    "Retry",
    "ReviewGroup",
    "Status",
    "StepFailed",
    "StepRejected",
    "Timings",
    "TlsConfig",
    "Unauthenticated",
    "Unavailable",
    "Unrecognised",
    "VersionActivated",
    "VersionCommitted",
    "VersionInfo",
]

for _name in __all__:  # tracebacks and help show the names that people import
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
del _name
