"""The gRPC server that the services are added to, its options, its port and the health of its services."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from accrete.inference import service_pb2
from accrete.v1 import curation_pb2, inbox_pb2, operation_pb2, prediction_pb2, teaching_pb2
from accrete_server.access.certificates import Certificates
from accrete_server.config import ServerConfig
from accrete_server.interceptors.interceptor import CallInterceptor
from accrete_server.interceptors.threads import CallThreads
from accrete_server.operate.membership import names_no_port

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (prediction_pb2, "Prediction"),
        (teaching_pb2, "Teaching"),
        (operation_pb2, "Operation"),
        (curation_pb2, "Curation"),
        (inbox_pb2, "Inbox"),
        (service_pb2, "GRPCInferenceService"),
    )
)
"""Full names of our services."""
LIVENESS = "liveness"
"""Name in the health service of the process itself, which goes on being served while the server drains."""


def make_grpc_server(config: ServerConfig, threads: CallThreads, interceptor: CallInterceptor) -> grpc.Server:
    """Return a gRPC server that has no service and no port yet."""
    return grpc.server(
        threads,
        interceptors=[interceptor],
        maximum_concurrent_rpcs=threads.count,  # a backstop: admission refuses long before, and says why
        options=(
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", config.max_message_bytes),
            ("grpc.so_reuseport", int(config.share_port)),  # without it, a second server on the port is an error
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ),
    )


def bind(server: grpc.Server, config: ServerConfig, certificates: Certificates | None) -> int:
    """Add the configured port to a gRPC server and return it, or any free one for `server.port` 0.

    A member that shares its port has one of its own besides, which is returned: by it clients tell it from the others,
    and the shared one is an address that stays good as long as any of them is there.

    Raises:
        OSError: the address cannot be listened on.
    """
    port = _bind(server, config, config.port, certificates)
    if config.port and config.share_port and config.advertise and names_no_port(config.advertise):
        port = _bind(server, config, 0, certificates)  # the kernel gives one that nobody else has, shared or not
    return port


def _bind(server: grpc.Server, config: ServerConfig, port: int, certificates: Certificates | None) -> int:
    address = f"{config.host}:{port}"
    try:
        if certificates is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, certificates.credentials())
    except RuntimeError as error:  # gRPC does not tell which of both it is
        raise OSError(
            f"cannot listen on {address}: another process has the port, or the address is not this machine's; "
            "change server.port (--port) or server.host (--host)"
        ) from error


def enable_reflection(server: grpc.Server) -> None:
    """Let callers list the services and their messages."""
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)


class Health:
    """The health of our services and of the server as a whole, which load balancers ask for."""

    def __init__(self, server: grpc.Server) -> None:
        """Add the health service to a gRPC server."""
        self._servicer = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def serving(self) -> None:
        """Say that every service is served."""
        for service in ("", LIVENESS, *SERVICES):
            self._servicer.set(service, health_pb2.HealthCheckResponse.SERVING)

    def stopping(self) -> None:
        """Say that no service is served from now on.

        The process is as well as before: whoever restarts one that is not would cut off the calls under way.
        """
        for service in ("", *SERVICES):
            self._servicer.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
