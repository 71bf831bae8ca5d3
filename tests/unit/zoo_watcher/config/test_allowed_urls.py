"""Which addresses are below an allowed one: same server, same user, and a path below it, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_watcher.config.allowed_urls import check_beginning, find_problem
from zoo_watcher.wire.records import InvalidRecord

SHOP = "https://git.example.org/shop"
SCHEMES = ("https", "ssh", "git", "http", "file")


def is_allowed(url: str, *beginnings: str) -> bool:
    """Whether a host that allows these beginnings deploys from an address."""
    return find_problem(url, SCHEMES, beginnings) is None


@pytest.mark.parametrize(
    ("beginning", "url"),
    [
        (SHOP, SHOP),
        (SHOP, f"{SHOP}/"),
        (f"{SHOP}/", SHOP),
        (f"{SHOP}/", f"{SHOP}/web.git"),
        (SHOP, f"{SHOP}/a/b/c.git"),
        (SHOP, f"{SHOP}/..web/.git/web..git/...x"),
        (SHOP, "https://GIT.Example.ORG/shop/web.git"),
        ("https://GIT.Example.ORG/shop", f"{SHOP}/web.git"),
        (SHOP, "https://git.example.org:443/shop/web.git"),
        ("https://git.example.org:443/shop", f"{SHOP}/web.git"),
        ("https://git.example.org:8443/", "https://git.example.org:8443/web.git"),
        ("https://git.example.org", SHOP),
        ("https://git.example.org/", SHOP),
        ("https://git.example.org/my%20shop", "https://git.example.org/my%20shop/web.git"),
        ("https://git.example.org/my shop", "https://git.example.org/my%20shop/web.git"),
        (SHOP, "https://git.example.org/%73hop/web.git"),
        ("https://git.example.org/größe", "https://git.example.org/gr%C3%B6%C3%9Fe/web.git"),
        ("https://[2001:DB8::1]/shop", "https://[2001:db8::1]:443/shop/web.git"),
        ("http://git.example.org/shop", "http://git.example.org:80/shop/web.git"),
        ("git://git.example.org/shop", "git://git.example.org:9418/shop/web.git"),
        ("ssh://git@git.example.org/shop", "ssh://git@git.example.org/shop/web.git"),
        ("ssh://git@git.example.org:22/shop", "ssh://git@git.example.org:22/shop/web.git"),
        ("ssh://git@git.example.org/", "ssh://git@git.example.org/~team/web.git"),
        ("ssh://git.example.org/~team", "ssh://git.example.org/~team/web.git"),
        ("git@git.example.org:shop", "git@git.example.org:shop/web.git"),
        ("git@git.example.org:", "git@git.example.org:shop/web.git"),
        ("git.example.org:shop/", "git.example.org:shop/web.git"),
        ("git@git.example.org:/srv", "ssh://git@git.example.org/srv/web.git"),
        ("ssh://git@git.example.org/srv", "git@git.example.org:/srv/web.git"),
        ("file:///srv/git", "/srv/git/web.git"),
        ("/srv/git", "file:///srv/git/web.git"),
        ("/srv/git/", "/srv/git"),
    ],
)
def test_an_address_below_an_allowed_one_is_allowed(beginning: str, url: str) -> None:
    assert is_allowed(url, beginning)
    assert is_allowed(url, "https://other.example.org/", beginning), "one of several is enough"


@pytest.mark.parametrize(
    ("beginning", "url"),
    [
        # Beside it.
        (SHOP, f"{SHOP}-evil"),
        (SHOP, f"{SHOP}-evil/web.git"),
        (SHOP, f"{SHOP}.git"),
        (SHOP, "https://git.example.org/"),
        (SHOP, "https://git.example.org"),
        (SHOP, "https://git.example.org/evil/shop"),
        (SHOP, "https://git.example.org/SHOP/web.git"),
        (f"{SHOP}/web.git", f"{SHOP}/web.gitevil"),
        # Another server.
        ("https://git.example.org", "https://git.example.org.evil/shop"),
        ("https://git.example.org", "https://git.example.orgevil/shop"),
        ("https://git.example.org", "https://evil.git.example.org/shop"),
        ("https://git.example.org", "https://git.example.org./shop"),
        ("https://git.example.org", "https://evil/https://git.example.org/shop"),
        ("https://git.example.org", "https://git%2Eexample.org/shop"),
        ("https://git.example.org", "https://git.example.org%2F.evil/shop"),
        ("https://git.example.org", "https://git.example.org%00.evil/shop"),
        ("https://git.example.org", "https://\uff47it.example.org/shop"),
        ("https://git.example.org", "https://git.example.org\uff0f.evil/shop"),
        ("https://git.example.org", "https://git.example.org\u3002evil/shop"),
        ("https://kelvin.example.org", "https://\u212aelvin.example.org/shop"),
        ("https://git.example.org", "https://git.example.org\\.evil/shop"),
        ("https://git.example.org", "https://evil?.git.example.org/shop"),
        ("https://git.example.org", "https://evil#.git.example.org/shop"),
        ("https://git.example.org", "https://evil#@git.example.org/shop"),
        ("https://git.example.org", "https://evil;git.example.org/shop"),
        ("https://git.example.org", "https:///git.example.org/shop"),
        ("https://git.example.org", "https:////git.example.org/shop"),
        ("https://127.0.0.1", "https://127.1/shop"),
        ("https://127.0.0.1", "https://0x7f.0.0.1/shop"),
        ("https://[::1]", "https://[::1]evil/shop"),
        # A user that looks like the server, and another user.
        ("https://git.example.org", "https://git.example.org@evil/shop"),
        ("https://git.example.org", "https://git.example.org\\@evil/shop"),
        ("https://git.example.org", "https://a@git.example.org@evil/shop"),
        ("https://git.example.org", "https://evil@git.example.org/shop"),
        ("https://git.example.org", "https://@git.example.org/shop"),
        ("ssh://git@git.example.org/shop", "ssh://root@git.example.org/shop/web.git"),
        ("ssh://git@git.example.org/shop", "ssh://git.example.org/shop/web.git"),
        ("ssh://git.example.org/shop", "ssh://git@git.example.org/shop/web.git"),
        ("ssh://git@git.example.org/shop", "ssh://Git@git.example.org/shop/web.git"),
        ("ssh://git@git.example.org/shop", "ssh://git%40git.example.org@evil/shop/web.git"),
        # Another port.
        (SHOP, "https://git.example.org:8443/shop"),
        ("https://git.example.org:8443/shop", SHOP),
        (SHOP, "https://git.example.org:/shop"),
        (SHOP, "https://git.example.org:443:8443/shop"),
        (SHOP, "https://git.example.org:\u0664\u0664\u0663/shop"),
        (SHOP, "https://git.example.org:+443/shop"),
        (SHOP, "https://git.example.org:99999999/shop"),
        ("ssh://git@git.example.org/shop", "ssh://git@git.example.org:2222/shop"),
        # The configuration of ssh may set another port, or another host name, for the host as written.
        ("ssh://git@git.example.org/shop", "ssh://git@git.example.org:22/shop"),
        ("ssh://git@git.example.org:22/shop", "ssh://git@git.example.org/shop"),
        ("git@git.example.org:/shop", "ssh://git@git.example.org:22/shop"),
        ("ssh://git@git.example.org/shop", "ssh://git@GIT.example.org/shop"),
        ("git.example.org:shop", "GIT.example.org:shop"),
        # Another protocol.
        (SHOP, "http://git.example.org/shop"),
        (SHOP, "ssh://git.example.org/shop"),
        (SHOP, "git://git.example.org/shop"),
        (SHOP, "git.example.org:shop"),
        (SHOP, "git.example.org:/shop"),
        ("http://git.example.org/shop", SHOP),
        # Up and out again.
        (SHOP, f"{SHOP}/../evil"),
        (SHOP, f"{SHOP}/.."),
        (SHOP, f"{SHOP}/web/../../evil"),
        (SHOP, f"{SHOP}/./web"),
        (SHOP, f"{SHOP}//../evil"),
        (SHOP, "https://git.example.org//shop/web.git"),
        (SHOP, "https://git.example.org/./shop/web.git"),
        (SHOP, f"{SHOP}/%2e%2e/evil"),
        (SHOP, f"{SHOP}/.%2E/evil"),
        (SHOP, f"{SHOP}/%2e%2e%2fevil"),
        (SHOP, f"{SHOP}/..%2fevil"),
        (SHOP, f"{SHOP}/..%5cevil"),
        (SHOP, f"{SHOP}/..\\evil"),
        (SHOP, f"{SHOP}\\..\\evil"),
        (SHOP, f"{SHOP}/%252e%252e/evil"),
        (SHOP, f"{SHOP}/%25%32%65%25%32%65/evil"),
        (SHOP, f"{SHOP}/%c0%ae%c0%ae/evil"),
        (SHOP, f"{SHOP}/%uff0e%uff0e/evil"),
        (SHOP, f"{SHOP}/%2/evil"),
        (SHOP, f"{SHOP}/..;/evil"),
        (SHOP, f"{SHOP}/..;a=b/evil"),
        (SHOP, f"{SHOP}/..%3b/evil"),
        (SHOP, f"{SHOP}/.. /evil"),
        (SHOP, f"{SHOP}/..%20/evil"),
        (SHOP, f"{SHOP}/.../evil"),
        (SHOP, f"{SHOP}/..%00/evil"),
        (SHOP, f"{SHOP}/..%0a/evil"),
        (SHOP, f"{SHOP}/..?x=/web.git"),
        (SHOP, f"{SHOP}/..#/web.git"),
        (SHOP, f"{SHOP}?/../evil"),
        (SHOP, f"{SHOP}/%3f"),
        (SHOP, "https://git.example.org%2Fshop/web.git"),
        (SHOP, "https://git.example.org/%2fshop/web.git"),
        (SHOP, "https://git.example.org/evil%2f..%2fshop"),
        ("ssh://git@git.example.org/shop", "ssh://git@git.example.org/shop/../evil"),
        ("ssh://git@git.example.org/shop", "ssh://git@git.example.org/shop/%2e%2e/evil"),
        ("git@git.example.org:shop", "git@git.example.org:shop/../evil"),
        ("git@git.example.org:shop", "git@git.example.org:../shop/web.git"),
        ("/srv/git", "/srv/git/../evil"),
        ("/srv/git", "file:///srv/git/%2e%2e/evil"),
        # The two forms of ssh: one is relative to the user's home, the other is not.
        ("git@git.example.org:shop", "ssh://git@git.example.org/shop/web.git"),
        ("ssh://git@git.example.org/shop", "git@git.example.org:shop/web.git"),
        ("git@git.example.org:shop", "git@git.example.org:/shop/web.git"),
        ("git@git.example.org:", "git@git.example.org:/shop/web.git"),
        ("git@git.example.org:shop", "git@git.example.org:shop-evil/web.git"),
        ("git@git.example.org:shop", "git@git.example.org.evil:shop/web.git"),
        ("git@git.example.org:shop", "root@git.example.org:shop/web.git"),
        ("git@git.example.org:shop", "git@evil:git@git.example.org:shop"),
        ("git@git.example.org:shop", "git@git.example.org:~root/shop"),
        ("git@git.example.org:shop", "git@git.example.org:sh%6fp/web.git"),
        ("git@git.example.org:shop", "[git@git.example.org:22]:shop/web.git"),
        ("git@git.example.org:shop", "git@git.example.org/x:shop"),
        ("ssh://git.example.org/srv", "ssh://git.example.org/~root/srv"),
        # Files on the host.
        ("/srv/git", "/srv/git-evil"),
        ("/srv/git", "file://evil/srv/git"),
        ("/srv/git", "file://localhost/srv/git/web.git"),
        ("/srv/git", "//srv/git/web.git"),
        ("/srv/git", "srv/git/web.git"),
        ("/srv/git", "./srv/git"),
        ("/srv/git", "."),
    ],
)
def test_an_address_that_only_looks_like_an_allowed_one_is_refused(beginning: str, url: str) -> None:
    assert is_allowed(beginning, beginning)
    problem = find_problem(url, SCHEMES, [beginning])
    assert problem is not None
    assert problem.startswith("url: ")
    assert "allowed_urls" in problem
    assert beginning in problem
    assert problem.isprintable()


def test_without_beginnings_every_address_of_the_allowed_protocols_is_allowed() -> None:
    assert is_allowed("https://anywhere.example.org/a/../b")
    assert find_problem("git://anywhere.example.org/x", ("https", "ssh"), ()) == (
        "url: git is not allowed on this host, only https, ssh; publish by one of these, or add git to allowed_schemes"
    )


def test_a_protocol_that_is_not_allowed_is_refused_even_below_an_allowed_address() -> None:
    assert "git is not allowed" in str(find_problem("git://a/b", ("https",), ("git://a/",)))


def test_a_refusal_says_what_to_do_and_shows_no_user_and_not_every_beginning() -> None:
    allowed = [f"https://git.example.org/{name}" for name in "abcde"]
    assert find_problem("https://token@git.example.org/x", SCHEMES, allowed) == (
        'url: "https://git.example.org/x" is below none of the allowed_urls of this host (https://git.example.org/a, '
        "https://git.example.org/b, https://git.example.org/c and 2 more); publish from one of them, or add it there"
    )
    assert find_problem("https://git.example.org/a/../x", SCHEMES, allowed[:1]) == (
        'url: "https://git.example.org/a/../x" can\'t be compared with the allowed_urls of this host '
        '(https://git.example.org/a): expected no ".." in its path; write it as one of them is written'
    )


@pytest.mark.parametrize(
    ("beginning", "text"),
    [
        ("https://git.example.org/a/../b", 'no ".." in its path'),
        ("https://git.example.org/%2e%2e", 'no ".." in its path'),
        ("https://git.example.org//a", 'no "" in its path'),
        ("https://*.example.org/", "a user, a host and a port"),
        ("https://git.example.org:/", "a user, a host and a port"),
        ("https://git.example.org:66000/", "a port up to 65535"),
        ("https:///a", "a user, a host and a port"),
        ("https://", "a user, a host and a port"),
        ("git.example.org/shop", "an absolute path"),
        ("*", "an absolute path"),
        ("https://git.example.org/*?", 'no "*?" in its path'),
        ("https://token@git.example.org/", "carries a user name, perhaps a token"),
        ("ssh://git:secret@git.example.org/", "carries a password"),
        ("ext::sh", "no transport helper"),
        ("HTTPS://git.example.org/", "expected https:// as git has it"),
        ("ftp://git.example.org/", "ftp is not in allowed_schemes"),
    ],
)
def test_a_beginning_that_is_ambiguous_or_invalid_is_a_mistake(beginning: str, text: str) -> None:
    with pytest.raises(InvalidRecord) as refused:
        check_beginning(beginning, SCHEMES)
    assert text in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "token@" not in str(refused.value)


SEGMENTS = st.sampled_from(
    ["shop", "evil", "..", ".", "", "%2e%2e", "%2f", "..%2f", "a;b", "\\", "?", "#", "@", ":", "%"]
)


@given(st.lists(SEGMENTS, max_size=6), st.sampled_from(["git.example.org", "evil", "git.example.org@evil"]))
def test_whatever_is_allowed_names_the_server_first_and_never_leaves_the_path(segments: list[str], host: str) -> None:
    url = f"https://{host}/" + "/".join(segments)
    if is_allowed(url, SHOP):
        assert host == "git.example.org"
        assert segments[0] == "shop"
        assert not {*segments} & {"..", ".", "%2e%2e", "%2f", "..%2f"}
