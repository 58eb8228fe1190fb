"""Which addresses may be asked: texts, numbers by hand from IANA's registries, and names that mean no good."""

import asyncio
import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_shop import PRIVATE, PUBLIC, Names, Shop, answer, served

from mmpc_analysis.catalogue.addresses import (
    AddressError,
    Network,
    check_number,
    guarded_transport,
    is_address,
    picture_request,
    request_address,
    shown_address,
)

# IANA's special-purpose registries, read by hand: what is nobody's business, whoever asks
NEVER = """169.254.169.254 169.254.170.2 169.254.0.1 0.0.0.0 0.1.2.3 255.255.255.255 240.0.0.1 224.0.0.1 239.255.255.250 168.63.129.16
100.100.100.200 192.0.0.192 192.88.99.1 :: fe80::1 fe80::1%eth0 ff02::1 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fec0::1 2002:7f00:1::
2002:a00:5:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 64:ff9b:1::a00:5 64:ff9b::a9fe:a9fe ::ffff:169.254.169.254 ::ffff:0.0.0.0 ::7f00:1 3fff::1"""
INSIDE = """127.0.0.1 127.8.8.8 10.0.0.5 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.255.255 198.18.0.1 192.0.2.1 203.0.113.7
::1 fd12:3456::1 fc00::1 ::ffff:127.0.0.1 ::ffff:10.0.0.5 64:ff9b::7f00:1 64:ff9b::a00:5"""
OUTSIDE = """93.184.215.14 1.1.1.1 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 2606:4700::1111 2a00:1450:4001:830::200e ::ffff:93.184.215.14
64:ff9b::5db8:d70e"""


def allowed(number, private=False):
    try:
        check_number(number, private)
    except AddressError:
        return False
    return True


@pytest.mark.parametrize("number", NEVER.split())
def test_some_numbers_are_never_asked(number):
    assert (allowed(number), allowed(number, private=True)) == (False, False)


@pytest.mark.parametrize("number", INSIDE.split())
def test_numbers_inside_a_network_want_permission(number):
    assert (allowed(number), allowed(number, private=True)) == (False, True)


@pytest.mark.parametrize("number", OUTSIDE.split())
def test_public_numbers_may_be_asked(number):
    assert (allowed(number), allowed(number, private=True)) == (True, True)


TEXTS = {
    "https://shop.example/1.jpg": "https://shop.example/1.jpg",
    "  HTTPS://Shop.Example/A.JPG  ": "https://shop.example/A.JPG",
    "//cdn.example/x.jpg?v=1": "https://cdn.example/x.jpg?v=1",
    "https://shop.example/a b.jpg": "https://shop.example/a%20b.jpg",
    "https://shop.example/a%20b%2Cc.jpg#top": "https://shop.example/a%20b%2Cc.jpg",
    "https://shop.example:443/1.jpg": "https://shop.example/1.jpg",
    "https://shop.example./1.jpg": "https://shop.example/1.jpg",
    "https://bücher.example/é.jpg": "https://xn--bcher-kva.example/%C3%A9.jpg",
    "https://例え.example/1.jpg": "https://xn--r8jz45g.example/1.jpg",
    "http://93.184.215.14/1.jpg": "http://93.184.215.14/1.jpg",
    "http://127.0.0.1./": "http://127.0.0.1/",  # Its number is refused later
    "https://my_shop.example/x.jpg?a=1&b=%2F": "https://my_shop.example/x.jpg?a=1&b=%2F",
}


@pytest.mark.parametrize("text", TEXTS)
def test_an_address_is_asked_as_it_is_meant(text):
    assert is_address(text)
    assert request_address(text) == TEXTS[text]


REFUSED = """ftp://h.example/1.jpg file:///etc/passwd gopher://h.example/1 javascript:alert(1) data:image/png;base64,AA jar:http://h.example!/1
dict://127.0.0.1:11211/ ldap://h.example/ blob:https://h.example/1 view-source:http://h.example/ http:///1.jpg http:/1.jpg http:1.jpg https://
https://anna:secret@h.example/1.jpg https://anna@h.example/ http://evil.example\\@h.example/ http://h.example:22/ http://h.example:6379/ http://h.example:0/
http://h.example:99999/ http://2130706433/ http://017700000001/ http://0x7f000001/ http://0x7f.1/ http://127.1/ http://0177.0.0.1/
http://1.2.3.4.5/ http://[::1 http://[fe80::1%25eth0]/ http://h%2eexample/ http://①②⑦.⓪.⓪.①/ http://h..example/ http://.example/ pictures/1.jpg
https://h.example/\x00 https://h.example/a\tb https://h.example/\ud83d"""


@pytest.mark.parametrize("text", re.split("[ \n]", REFUSED), ids=repr)
def test_other_texts_are_refused(text):
    with pytest.raises(AddressError):
        request_address(text)


def test_a_host_of_another_script_s_dots_is_a_number_too():
    assert request_address("http://127。0。0。1/") == "http://127.0.0.1/"


def test_long_texts_are_refused_and_shown_short():
    with pytest.raises(AddressError, match="longer than 8,000") as error:
        request_address("https://h.example/" + "a" * 9_000)
    assert len(str(error.value)) < 400


@given(st.text("aZ09:@%&€é\u2028 .", max_size=20))
def test_no_secret_is_ever_shown(secret):
    text = f"https://anna:{secret}@h.example/1.jpg"
    assert shown_address(text) == "https://***@h.example/1.jpg"
    with pytest.raises(AddressError) as error:
        request_address(text)
    assert "anna" not in str(error.value)


@given(st.text(max_size=60))
def test_any_text_is_answered_or_refused(text):
    for address in (text, f"http://{text}/1.jpg", f"//{text}"):
        try:
            asked = request_address(address, private=True)
        except AddressError:
            continue
        url = httpx.URL(asked)
        assert url.scheme in ("http", "https") and url.host and not url.userinfo and not url.fragment
        assert request_address(asked, private=True) == asked


# ---------------------------------------------------------------- connections


def asked(addresses, names, private=False):
    "What comes of each address: a status, or why not."

    async def ask():
        told = []
        async with guarded_transport(private, network=names.network) as transport:
            for address in addresses:
                try:
                    answered = await transport.handle_async_request(picture_request(address))
                    await answered.aclose()
                    told.append(answered.status_code)
                except (AddressError, OSError) as error:
                    told.append(str(error))
        return told

    return asyncio.run(ask())


@pytest.fixture
def two_servers():
    with (
        served(Shop({"/": answer(b"x", Set_Cookie="a=b; Path=/")})) as outside,
        served(Shop({"/": answer(b"x")})) as inside,
    ):
        yield outside, inside


def test_a_good_name_is_reached_under_its_name(two_servers):
    names = Names(*two_servers)
    assert asked(["http://shop.example/"], names) == [200]
    assert names.connected == [PUBLIC]
    head = two_servers[0].heads[0]
    assert "\r\nhost: shop.example\r\n" in head.lower()
    assert re.search(r"(?im)^user-agent: mmpc_analysis/\d", head)
    assert re.search(r"(?im)^accept-encoding: identity\r", head)


BAD_NAMES = {
    "inside.example": [PRIVATE],
    "me.example": ["127.0.0.1"],
    "six.example": ["::1"],
    "mapped.example": ["::ffff:10.0.0.5"],
    "cloud.example": ["169.254.169.254"],
    "both.example": [PUBLIC, PRIVATE],
    "nothing.example": ["0.0.0.0"],
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_stands_for_an_inner_number_reaches_nobody(two_servers, name):
    names = Names(*two_servers, BAD_NAMES)
    (told,) = asked([f"http://{name}/"], names)
    assert "lies inside a network" in told or "is never asked" in told
    assert names.connected == [] and not two_servers[1].heads


def test_a_cloud_s_metadata_are_refused_in_one_s_own_network_too(two_servers):
    names = Names(*two_servers, {"metadata.google.internal": ["169.254.169.254"]})
    told = asked(
        ["http://metadata.google.internal/", "http://169.254.169.254/", "http://[fd00:ec2::254]/"],
        names,
        True,
    )
    assert all("is never asked" in text for text in told)
    assert names.connected == []


def test_a_name_that_changes_its_number_is_looked_up_where_it_is_connected(two_servers):
    names = Names(*two_servers, {"changes.example": [[PUBLIC], [PRIVATE], ["169.254.169.254"], [PUBLIC]]})
    told = asked(["http://changes.example/"] * 4, names)
    assert told[0] == told[3] == 200
    assert PRIVATE in told[1] and "169.254.169.254" in told[2]
    assert names.connected == [PUBLIC, PUBLIC] and not two_servers[1].heads
    assert (
        names.looked_up["changes.example"] == 4
    )  # Once a connection: what was checked is what is connected to


def test_no_cookie_comes_back(two_servers):
    asked(["http://shop.example/"] * 2, Names(*two_servers))
    assert len(two_servers[0].heads) == 2 and "cookie" not in two_servers[0].heads[1].lower()


def test_a_proxy_of_the_environment_is_not_used(two_servers, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, two_servers[1].url)
    assert asked(["http://shop.example/"], Names(*two_servers)) == [200]
    assert not two_servers[1].heads


def test_a_certificate_has_to_be_the_name_s():
    wanted = []

    class Stream:
        async def start_tls(self, ssl_context, server_hostname=None, timeout=None):
            wanted.append((server_hostname, ssl_context.check_hostname, ssl_context.verify_mode.name))
            raise OSError("enough")

        async def aclose(self):
            wanted.append("closed")

    async def look_up(host, port):
        return [PUBLIC]

    async def connect(number, port, timeout):
        wanted.append((number, port))
        return Stream()

    async def ask():
        async with guarded_transport(network=Network(look_up, connect)) as transport:
            await transport.handle_async_request(picture_request("https://shop.example/"))

    with pytest.raises(OSError, match="enough"):
        asyncio.run(ask())
    assert wanted[:2] == [(PUBLIC, 443), ("shop.example", True, "CERT_REQUIRED")]
