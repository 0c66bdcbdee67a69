"""Whether a server of this node answers, by gRPC's health service."""

from __future__ import annotations

import dataclasses
import socket

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from accrete_node.page import Server
from accrete_node.settings import Settings
from accrete_server.grpc_server import LIVENESS

_TIMEOUT_S = 2.0
_DIRECT = (("grpc.enable_http_proxy", 0),)  # a proxy of the environment does not lead to this machine


class Health:
    """Asks one server, over a connection that stays open."""

    def __init__(self, settings: Settings, address: str) -> None:
        """Ask the server of these settings at `address` ("HOST:PORT").

        Raises:
            Unavailable: its certificate cannot be read.
        """
        host, _, number = address.rpartition(":")
        port = int(number)
        self._place = (host.strip("[]"), port)
        placed = settings.model_copy(update={"server": dataclasses.replace(settings.server, port=port)})
        tls = Server(placed).target().tls
        if tls is False or tls is True:
            self._channel = grpc.insecure_channel(address, _DIRECT)
        else:
            with open(tls.root_certificates or "", "rb") as file:
                credentials = grpc.ssl_channel_credentials(file.read())
            options = (*_DIRECT, ("grpc.ssl_target_name_override", tls.server_name))
            self._channel = grpc.secure_channel(address, credentials, options)
        self._stub = health_pb2_grpc.HealthStub(self._channel)
        self._connects_only = bool(settings.access.client_ca)

    def alive(self) -> bool:
        """Return whether the process answers, also while it drains.

        A server that lets in by certificate alone lets nobody in without one; that it takes up connections has to do.
        """
        if self._connects_only:
            return self._connects()
        try:
            answer = self._stub.Check(health_pb2.HealthCheckRequest(service=LIVENESS), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            return error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _connects(self) -> bool:
        try:
            socket.create_connection(self._place, timeout=_TIMEOUT_S).close()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()
