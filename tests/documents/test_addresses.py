"""Addresses that lead elsewhere than they seem (OWASP SSRF, PayloadsAllTheThings, PortSwigger, RFC 6890)."""

from __future__ import annotations

import pytest

from sizewise.documents.addresses import Refused, check_url, is_public, is_url, normal_host, pinned_address

ALLOWED = (
    "example.com",
    "docs.example.com:8443",
    "münchen.example",
    "93.184.215.14",
    "127.0.0.1",
    "[::1]",
    "localhost",
)
PUBLIC = "93.184.215.14"

REFUSED = [
    # other schemes
    *("file:///etc/passwd", "gopher://example.com/_x", "dict://example.com:11211/", "ftp://example.com/"),
    *("ldap://example.com/", "jar:http://example.com!/", "data:text/html,x", "javascript:alert(1)", "//example.com/"),
    # IPv4 loopback in other spellings
    *("http://127.1/", "http://127.0.1/", "http://0/", "http://0.0.0.0/", "http://2130706433/", "http://0x7f000001/"),
    *("http://0x7f.0x0.0x0.0x1/", "http://0177.0.0.1/", "http://017700000001/", "http://127.0.0.1.:80/"),
    *("http://0x7f.1/", "http://00000000177.0.0.1/", "http://3232235777/", "http://0xA9FEA9FE/", "http://127.0.0.256/"),
    *(
        "http://①②⑦.⓪.⓪.①/",
        "http://127。0。0。1/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://[::ffff:127.0.0.1%25eth0]/",
    ),
    # private names and metadata services
    *("http://localhost/", "http://LOCALHOST./", "http://metadata.google.internal/", "http://printer.local/"),
    *("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://instance-data/"),
    # user names, separators and hosts that only look right
    *("http://example.com@127.0.0.1/", "http://127.0.0.1@example.com/", "http://example.com:80@evil.test/"),
    *("http://example.com%2f@evil.test/", "http://evil.test#@example.com/", "http://evil.test?@example.com/"),
    *("http://example.com\\@evil.test/", "http://evil.test\\.example.com/", "http://example.com.evil.test/"),
    *("http://evilexample.com/", "http://example.com%00.evil.test/", "http://example.com%0d%0aHost:x/", "http:///"),
    *("http://ex\u0430mple.com/", "http://example.c\u043em/", "http://xn--exmple-4nf.com/", "http://\uff45vil.test/"),
    *("http://example.com /", "http://exa\tmple.com/", "http://example.com\r\n/", "http://docs.example.com/"),
    # ports
    *("http://example.com:22/", "https://example.com:6379/", "http://example.com:0/", "http://example.com:99999/"),
    *("http://example.com:-1/", "https://docs.example.com:8444/", "http://example.com:8x/"),
    "https://example.com/" + "x" * 3000,
]


@pytest.mark.parametrize("url", REFUSED, ids=ascii)
def test_misleading_addresses_are_refused_before_any_look_up(url: str) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host} was looked up")

    with pytest.raises(Refused) as refused:
        pinned_address(check_url(url, ("example.com", "docs.example.com:8443")), resolve)
    assert str(refused.value)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://EXAMPLE.com.:443/a?b=1#c", "https://example.com/a?b=1"),
        ("https://docs.example.com:8443/x", "https://docs.example.com:8443/x"),
        ("http://münchen.example/straße", "http://xn--mnchen-3ya.example/stra%C3%9Fe"),
        ("https://example.com/%E2%82%AC?q=%20", "https://example.com/%E2%82%AC?q=%20"),
    ],
)
def test_listed_addresses_have_one_form(url: str, normal: str) -> None:
    assert check_url(url, ALLOWED).url == normal


PRIVATE = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.1", "192.0.2.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1"),
    *("fe80::1%eth0", "192.0.0.9", "192.0.0.170", "192.88.99.1", "2001:1::1", "2001:20::1", "3fff::1"),
    *("fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "::127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::", "fec0::1", "100::1", "no address"),
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_and_reserved_addresses_are_refused(address: str) -> None:
    assert not is_public(address)
    for answer in ([address], [PUBLIC, address]):
        with pytest.raises(Refused, match="private or reserved"):
            pinned_address(check_url("https://example.com/", ALLOWED), lambda host, port, answer=answer: answer)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://[::1]/", "http://localhost/"])
def test_listing_a_private_host_does_not_open_it(url: str) -> None:
    with pytest.raises(Refused):
        pinned_address(check_url(url, ALLOWED), lambda host, port: [host])


def test_public_addresses_are_pinned() -> None:
    for address in (PUBLIC, "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"):
        assert pinned_address(check_url("https://example.com/", ALLOWED), lambda host, port, a=address: [a]) == address
    with pytest.raises(Refused, match="no address"):
        pinned_address(check_url("https://example.com/", ALLOWED), lambda host, port: [])


def test_hosts_are_compared_in_ascii() -> None:
    assert normal_host("Bücher.example") == normal_host("xn--bcher-kva.example")
    assert is_url("https://example.com")
    assert not is_url("docs/a.txt")
    assert not is_url("demo:fhir")
