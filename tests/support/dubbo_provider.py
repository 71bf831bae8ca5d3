"""A provider that uses Dubbo's own client for Python, and runs until its input ends.

Its arguments: `host:port` of a ZooKeeper server, the interface, and the provider's port.
"""

from __future__ import annotations

import sys

import dubbo
from dubbo.configs import RegistryConfig, ServiceConfig
from dubbo.proxy.handlers import RpcMethodHandler, RpcServiceHandler


def main(server: str, interface: str, port: str) -> None:
    """Provide `interface` at this port of 127.0.0.1, registered with this ZooKeeper server."""
    methods = [RpcMethodHandler.unary(bytes.upper, method_name="upper")]
    service = ServiceConfig(
        service_handler=RpcServiceHandler(service_name=interface, method_handlers=methods),
        host="127.0.0.1",
        port=int(port),
    )
    registry = RegistryConfig.from_url(f"zookeeper://{server}")
    dubbo.Dubbo(registry_config=registry).create_server(service).start()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
