"""A request of the controller to a real server: within its time, without following redirects."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance import web
from support.ports import free_ports


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by its path."""

    def do_GET(self) -> None:
        """`/302` leads elsewhere; any other number is a status."""
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("Location", "/200")
        self.end_headers()
        self.wfile.write(f"{self.path} {self.headers['Authorization']}".encode())

    def log_message(self, *_words: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a running server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_an_answer_is_one_whatever_its_status(server: str) -> None:
    assert web.get(f"{server}/200", 10, {}) == web.WebAnswer(200, b"/200 None")
    assert web.get(f"{server}/503", 10, {}) == web.WebAnswer(503, b"/503 None")
    assert web.get(f"{server}/302", 10, {}).status == 302


def test_credentials_are_sent_with_the_request(server: str) -> None:
    basic = {"url_username": "ann", "url_password": "secret", "force_basic_auth": True}
    assert web.get(f"{server}/200", 10, basic).body == b"/200 Basic YW5uOnNlY3JldA=="
    assert web.get(f"{server}/200", 10, {"headers": {"Authorization": "Bearer x"}}).body == b"/200 Bearer x"


def test_a_missing_answer_is_explained_without_details_of_the_request() -> None:
    (port,) = free_ports(1)
    assert web.get(f"http://127.0.0.1:{port}/?token=x", 10, {}) == web.WebAnswer(
        None, problem="no answer: Connection refused"
    )


def test_a_server_that_sends_byte_by_byte_has_no_more_time_than_others() -> None:
    """Each byte restarts a socket's timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def drip() -> None:
            connection, _address = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while not ended.wait(0.1):
                    connection.sendall(b"x")

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        answer = web.get(f"http://127.0.0.1:{listening.getsockname()[1]}/", 1, {})
        ended.set()
        dripping.join(10)
    assert answer == web.WebAnswer(None, problem="no answer within 1 s")
