"""The wire format of the bench's bare sockets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench import jute

PACKETS = st.lists(st.binary(max_size=40), max_size=6)
TEXTS = st.lists(st.text(max_size=10), max_size=6)


@given(PACKETS, st.integers(min_value=0))
def test_packets_are_taken_out_when_they_are_complete(sent: list[bytes], cut: int) -> None:
    stream = b"".join(map(jute.framed, sent))
    place = cut % (len(stream) + 1)
    received = bytearray(stream[:place])
    first = list(jute.packets(received))
    received += stream[place:]
    assert first + list(jute.packets(received)) == sent
    assert not received


@given(TEXTS)
def test_strings_are_read_as_they_were_written(texts: list[str]) -> None:
    packet = jute.INT.pack(len(texts)) + b"".join(map(jute.string, texts))
    assert list(jute.texts(packet)) == texts
    if texts:
        assert jute.text_at(packet, jute.INT.size) == texts[0]


def test_an_existing_session_is_named_in_the_first_packet() -> None:
    packet = jute.hello(10_000, 7, b"p" * 16)
    assert jute.CONNECT.unpack(packet[jute.INT.size :]) == (0, 0, 10_000, 7, 16, b"p" * 16, False)
