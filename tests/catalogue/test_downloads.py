"""Downloads of pictures: hostile servers, polite waiting, and runs that are killed.

The servers are sockets of this machine. Names and numbers are those of a scripted network: whatever gets past the guard reaches the server
`inside`, whose count of requests has to stay 0.
"""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from scripted_shop import PRIVATE, PUBLIC, Names, Shop, answer, picture, served

from mmpc_analysis.catalogue import downloads
from mmpc_analysis.catalogue.download_journal import (
    append_journal,
    compact_journal,
    read_journal,
    stored_pictures,
)
from mmpc_analysis.catalogue.downloads import download_summary, fetch_pictures, named_addresses
from mmpc_analysis.catalogue.items import load_catalogue
from mmpc_analysis.catalogue.picture_requests import FetchLimits, picture_ending, retry_after
from mmpc_analysis.tables import PICTURES, validate

QUICK = FetchLimits(idle=10, seconds=20, pause=0.01, tries=3)
HASTY = FetchLimits(idle=0.3, seconds=0.8, pause=0.01, tries=1, size=200_000)


def files_of(folder):
    "Files of pictures, by their path inside the folder."
    return {
        p.relative_to(folder).as_posix()
        for p in Path(folder).rglob("*")
        if p.is_file() and "journal" not in p.parts
    }


def fetch(addresses, folder, limits=QUICK, **choices):
    return fetch_pictures(addresses, folder, limits=limits, progress=False, **choices)


# ---------------------------------------------------------------- what servers may send


async def endless(writer):
    writer.write(answer(picture(1), length=False))
    while True:
        writer.write(b"\0" * 65_536)
        await writer.drain()


async def endless_chunks(writer):
    writer.write(answer(length=False, Transfer_Encoding="chunked"))
    while True:
        writer.write(b"10000\r\n" + b"\xff" * 65_536 + b"\r\n")
        await writer.drain()


async def endless_head(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"a" * 1_000 + b"\r\n")
        await writer.drain()


async def drip(writer):
    writer.write(answer(length=1_000))
    for _ in range(1_000):
        writer.write(b"\x89")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_head(writer):
    for letter in b"HTTP/1.1 200 OK\r\n" * 100:
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def silent(writer):
    await asyncio.sleep(30)


async def hangs_up(writer):
    writer.close()


def bomb():
    "A PNG of few bytes whose header promises 20,000 x 20,000 pixels."
    import struct
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000)) + chunk(b"IEND", b"")
    )


def packed(size):
    import gzip

    return gzip.compress(b"\0" * size)


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
HOSTILE = {  # Path: answer, outcome, part of the reason
    "/endless": (endless, "refused", "sends more than 200,000 bytes"),
    "/endless-chunks": (endless_chunks, "refused", "sends more than 200,000 bytes"),
    "/endless-head": (endless_head, "failed", "gave no whole answer"),
    "/promises": (answer(picture(1), length=10**12), "refused", "has 1,000,000,000,000 bytes"),
    "/drip": (drip, "failed", "took too long"),
    "/drip-head": (drip_head, "failed", "took too long"),
    "/silent": (silent, "failed", "took too long or fell silent"),
    "/hangs-up": (hangs_up, "failed", "gave no whole answer"),
    "/gzip": (answer(packed(10**7), Content_Encoding="gzip"), "refused", "comes packed (gzip)"),
    "/br": (answer(b"x", Content_Encoding="br"), "refused", "comes packed (br)"),
    "/bomb": (answer(bomb()), "refused", "over 89,478,485 pixels"),
    "/cut-file": (answer(picture(1)[:300]), "refused", "cannot be decoded"),
    "/cut-answer": (answer(picture(1), length=10_000), "failed", "gave no whole answer"),
    "/html": (answer(b"<p>Hello</p>", kind="text/html"), "refused", "is text/html"),
    "/html-as-jpeg": (answer(b"<p>Hello</p>", kind="image/jpeg"), "refused", "begins with b'<p>Hello</p>'"),
    "/svg": (answer(SVG, kind="image/svg+xml"), "refused", "is image/svg+xml"),
    "/svg-as-png": (answer(SVG, kind="image/png"), "refused", "as no jpg, png"),
    "/eps": (answer(b"%!PS-Adobe-3.0 EPSF-3.0\n", kind="image/x-eps"), "refused", "begins with b'%!PS"),
    "/pdf": (answer(b"%PDF-1.7\n", kind="application/pdf"), "refused", "is application/pdf"),
    "/zip": (answer(b"PK\3\4" + b"\0" * 90, kind="application/octet-stream"), "refused", "begins with b'PK"),
    "/empty": (answer(b""), "failed", "is empty"),
    "/no-content": (answer(status=204), "failed", "answered 204"),
    "/partial": (answer(picture(1), status=206), "failed", "answered 206"),
    "/not-http": (b"220 mail.example ESMTP\r\n\r\n", "failed", "gave no whole answer"),
    "/file": (answer(status=302, Location="file:///etc/passwd"), "refused", "begins with file:"),
    "/script": (answer(status=302, Location="javascript:alert(1)"), "refused", "begins with javascript:"),
    "/data": (answer(status=302, Location="data:image/png;base64,AAAA"), "refused", "begins with data:"),
    "/secret": (
        answer(status=302, Location="http://anna:secret@shop.example/"),
        "refused",
        "holds a user name",
    ),
    "/port": (answer(status=302, Location="http://shop.example:6379/"), "refused", "names port 6379"),
    "/inside": (answer(status=302, Location=f"http://{PRIVATE}/"), "refused", "lies inside a network"),
    "/inside-name": (answer(status=301, Location="//intranet.example/"), "refused", "lies inside a network"),
    "/localhost": (answer(status=307, Location="http://localhost/"), "refused", "lies inside a network"),
    "/six": (answer(status=308, Location="http://[::1]/"), "refused", "lies inside a network"),
    "/cloud": (answer(status=303, Location="http://169.254.169.254/latest/"), "refused", "is never asked"),
    "/changes": (answer(status=302, Location="http://changes.example/"), "refused", "lies inside a network"),
    "/round": (answer(status=302, Location="/round"), "refused", "leads on more than 5 times"),
    "/a": (answer(status=302, Location="http://b.example/b"), "refused", "leads on more than 5 times"),
    "/nonsense": (answer(status=302, Location="http://[::1"), "refused", "cannot be read as an address"),
}
NAMES = {
    "intranet.example": [PRIVATE],
    "localhost": ["127.0.0.1", "::1"],
    "changes.example": [PRIVATE],
    "inside.example": [PRIVATE],
    "rebinds.example": [[PUBLIC], [PRIVATE]],
    "both.example": [PUBLIC, "127.0.0.1"],
}
NEVER_SENT = [
    "http://127.0.0.1/1.png",
    "http://localhost/1.png",
    "http://[::1]/1.png",
    "http://inside.example/1.png",
]
NEVER_SENT += [
    "http://both.example/1.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://0.0.0.0/",
    "http://[::]/",
]
NEVER_SENT += [
    "http://[fd00:ec2::254]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::a00:5]/",
    "http://10.0.0.5/",
    "http://2130706433/",
]
NEVER_SENT += [
    "file:///etc/passwd",
    "ftp://shop.example/1.png",
    "gopher://shop.example/1",
    "javascript:alert(1)",
]
NEVER_SENT += [
    "data:image/png;base64,iVBORw0KGgo=",
    "http://anna:secret@shop.example/1.png",
    "http://shop.example:22/",
]


def test_nothing_hostile_is_kept_and_nobody_inside_is_asked(tmp_path):
    script = {path: told for path, (told, _, _) in HOSTILE.items()} | {
        "/b": answer(status=302, Location="http://shop.example/a")
    }
    with served(Shop(script)) as outside, served(Shop({"/1.png": answer(picture(9))})) as inside:
        names = Names(outside, inside, NAMES)
        addresses = [f"http://shop.example{path}" for path in HOSTILE]
        rows = fetch([*addresses, *NEVER_SENT], tmp_path, HASTY, network=names.network)
    assert not inside.heads, f"a server inside was asked: {inside.asked}"
    assert set(names.connected) == {PUBLIC}
    wrong = {}
    for (path, (_, outcome, reason)), row in zip(HOSTILE.items(), rows.itertuples(), strict=False):
        if row.outcome != outcome or reason not in row.reason:
            wrong[path] = (row.outcome, row.reason)
    assert not wrong
    assert set(rows["outcome"][len(HOSTILE) :]) == {"refused"} and rows["status"][len(HOSTILE) :].isna().all()
    assert files_of(tmp_path) == set() and stored_pictures(tmp_path) == {}
    journal = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"anna" not in journal and b"secret" not in journal
    assert (
        outside.asked["/round"] == 6 and outside.asked["/a"] == outside.asked["/b"] == 3
    )  # The address itself, and five steps


def test_a_name_that_changes_between_two_pictures_reaches_nobody_inside(tmp_path):
    shop = Shop({f"/{n}.png": answer(picture(n)) for n in range(4)})
    with served(shop) as outside, served(Shop()) as inside:
        names = Names(outside, inside, NAMES)
        rows = fetch(
            [f"http://rebinds.example/{n}.png" for n in range(4)], tmp_path, per_host=1, network=names.network
        )
    assert rows["outcome"].tolist() == ["stored", "refused", "refused", "refused"]
    assert not inside.heads and names.connected == [PUBLIC]


def test_from_https_no_server_leads_back_to_http():
    from mmpc_analysis.catalogue.addresses import AddressError
    from mmpc_analysis.catalogue.picture_requests import _onward

    assert _onward("https://a.example/x/1.jpg", "2.jpg#top", False) == "https://a.example/x/2.jpg"
    assert _onward("http://a.example/1.jpg", "https://b.example/2.jpg", False) == "https://b.example/2.jpg"
    assert _onward("https://a.example/1.jpg", "//b.example/2.jpg", False) == "https://b.example/2.jpg"
    with pytest.raises(AddressError, match="not protected"):
        _onward("https://a.example/1.jpg", "http://a.example/1.jpg", False)


# ---------------------------------------------------------------- what is kept


def test_pictures_are_kept_by_content_and_asked_once(tmp_path):
    kinds = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}
    script = {f"/{kind}": answer(picture(7, kind), kind="application/octet-stream") for kind in kinds}
    script |= {"/untyped": answer(picture(7), kind=""), "/led": answer(status=301, Location="/JPEG")}
    script |= {"/c%2Cd,e%20f.png?w=1": answer(picture(8))}
    with served(Shop(script)) as shop:
        paths = [*script, "/PNG#large", " /PNG", "/c%2Cd,e f.png?w=1"]
        addresses = [shop.url + path if path[0] != " " else f" {shop.url}/PNG " for path in paths]
        rows = fetch(addresses, tmp_path, private=True)
        assert set(rows["outcome"]) == {"stored"} and len(rows) == len(addresses)
        assert set(shop.asked.values()) == {1, 2} and shop.asked["/JPEG"] == 2  # Once by itself, once led to
        again = fetch(addresses, tmp_path, private=True)
        assert again.attrs["requests"] == 0 and sum(shop.asked.values()) == rows.attrs["requests"]
    pd.testing.assert_frame_equal(rows, again)
    by_hand = {
        f"{h[:2]}/{h}.{end}": None
        for kind, end in kinds.items()
        for h in [hashlib.sha256(picture(7, kind)).hexdigest()]
    }
    h = hashlib.sha256(picture(8)).hexdigest()
    assert files_of(tmp_path) == {*by_hand, f"{h[:2]}/{h}.png"}
    assert stored_pictures(tmp_path) == dict(zip(addresses, rows["image"], strict=True))
    assert all(
        hashlib.sha256((tmp_path / r.image).read_bytes()).hexdigest() == r.sha256 for r in rows.itertuples()
    )
    assert rows["bytes"].tolist() == [(tmp_path / image).stat().st_size for image in rows["image"]]


def test_kinds_are_told_by_their_first_bytes():
    from mmpc_analysis.catalogue.pictures import ImageError

    assert picture_ending(b"II*\0rest") == picture_ending(b"MM\0*rest") == "tiff"
    for foreign in (
        b"",
        b"RIFF\0\0\0\0WAVE",
        b"\0\0\0 ftypavif",
        b"\x89PNG\n",
        b"GIF86a",
        b"MZ\x90",
        b" \xff\xd8\xff",
    ):
        with pytest.raises(ImageError):
            picture_ending(foreign)


def test_a_lost_file_is_fetched_again_and_a_refused_address_is_not(tmp_path):
    with served(Shop({"/1.png": answer(picture(1)), "/page": answer(b"<p>", kind="text/html")})) as shop:
        addresses = [f"{shop.url}/{name}" for name in ("1.png", "page", "gone")]
        first = fetch(addresses, tmp_path, private=True)
        (tmp_path / first["image"][0]).unlink()
        assert stored_pictures(tmp_path) == {}
        fetch(addresses, tmp_path, private=True)
        assert dict(shop.asked) == {"/1.png": 2, "/page": 1, "/gone": 2}
        shop.script["/page"] = answer(picture(2))
        rows = fetch(addresses, tmp_path, private=True, again=True)
        assert rows["outcome"].tolist() == ["stored", "stored", "failed"]


def test_permission_is_asked_for_anew(tmp_path):
    with served(Shop({"/1.png": answer(picture(1))})) as shop:
        address = f"{shop.url}/1.png"
        rows = fetch([address], tmp_path)
        assert rows["outcome"].tolist() == ["refused"] and "--private" in rows["reason"][0]
        assert not shop.heads
        assert fetch([address], tmp_path, private=True)["outcome"].tolist() == ["stored"]
        assert fetch([address], tmp_path)["outcome"].tolist() == ["stored"]  # It is here


# ---------------------------------------------------------------- politeness


def test_a_few_at_a_time_at_each_host_and_in_all(tmp_path):
    async def slow(writer):
        await asyncio.sleep(0.05)
        writer.write(answer(picture(1)))

    with served(Shop({f"/{n}": slow for n in range(10)})) as shop, served(Shop()) as inside:
        names, hosts = Names(shop, inside), ["a.example", "b.example", "c.example"]
        addresses = [f"http://{host}/{n}" for host in hosts for n in range(10)]
        rows = fetch(addresses, tmp_path, per_host=3, workers=7, network=names.network)
    assert set(rows["outcome"]) == {"stored"} and rows["image"].nunique() == 1
    assert {host: shop.most[host] for host in hosts} == dict.fromkeys(hosts, 3) or max(
        shop.most.values()
    ) <= 3
    assert max(shop.most.values()) > 1, "nothing was asked beside anything else"


def test_faults_that_pass_are_asked_again_and_others_are_not(tmp_path):
    good = answer(picture(1))
    script = {
        "/500": [answer(status=500), good],
        "/503": [answer(status=503, Retry_After="0"), answer(status=503, Retry_After="0"), good],
        "/429": [answer(status=429), good],
        "/cut": [answer(picture(1), length=5_000), good],
        "/hangs": [hangs_up, good],
        "/always": answer(status=502),
        "/404": answer(status=404),
        "/410": answer(status=410),
        "/403": answer(status=403),
    }
    with served(Shop(script)) as shop:
        rows = fetch([shop.url + path for path in script], tmp_path, private=True)
    assert rows["outcome"].tolist() == ["stored"] * 5 + ["failed"] * 4
    assert dict(shop.asked) == dict(zip(script, [2, 3, 2, 2, 2, 3, 1, 1, 1], strict=True))
    assert rows["status"].tolist() == [200] * 5 + [502, 404, 410, 403]
    assert rows["reason"].tolist()[5:] == ["answered 502", "answered 404", "answered 410", "answered 403"]


def test_a_busy_host_is_left_in_peace_as_long_as_it_asks(tmp_path):
    times = []

    async def busy(writer):
        times.append(time.monotonic())
        late = len(times) > 1
        writer.write(answer(picture(1)) if late else answer(status=429, Retry_After="1"))

    async def other(writer):
        times.append(time.monotonic())
        writer.write(answer(picture(1)))

    with served(Shop({"/a": busy, "/b": other, "/c": other})) as shop:
        rows = fetch([f"{shop.url}/{name}" for name in "abc"], tmp_path, private=True, per_host=1)
    assert set(rows["outcome"]) == {"stored"} and len(times) == 4
    assert times[1] - times[0] >= 0.99  # Nothing at all is asked of the host in this second


def test_who_asks_for_too_long_a_wait_is_left_for_another_run(tmp_path):
    with served(Shop({f"/{n}": answer(status=503, Retry_After="86400") for n in range(20)})) as shop:
        rows = fetch([f"{shop.url}/{n}" for n in range(20)], tmp_path, private=True, per_host=2)
    assert set(rows["outcome"]) == {"failed"} and sum(shop.asked.values()) <= 2
    assert rows["reason"].str.contains("asks to wait 86,400 s").sum() >= 18


def test_a_silent_host_is_left_alone_and_holds_nobody_up(tmp_path):
    script = {f"/{n}": hangs_up for n in range(60)} | {"/good": answer(picture(1))}
    with served(Shop(script)) as shop, served(Shop()) as inside:
        addresses = [f"http://dead.example/{n}" for n in range(60)] + ["http://good.example/good"]
        limits = FetchLimits(pause=0.01, tries=2, silent=6, idle=10)
        rows = fetch(addresses, tmp_path, limits, network=Names(shop, inside).network)
    assert rows["outcome"].tolist() == ["failed"] * 60 + ["stored"]
    assert sum(shop.asked.values()) < 6 + 4 + 2
    assert rows["reason"].str.contains("its host gave no answer").sum() >= 50


NAN = float("nan")
WAITS = {
    "7": 7.0,
    "0": 0.0,
    "-5": 0.0,
    "1.5": 1.5,
    "soon": NAN,
    "": NAN,
    "9" * 12: 999_999_999_999.0,  # Longer than anybody waits, and not for that reason unread
    "Mon, 30 Nov 2026 12:00:30 GMT": 30.0,
    "Mon, 30 Nov 2026 11:00:00 GMT": 0.0,
    "Mon, 30 Nov 99999 12:00:00 GMT": NAN,
}


@pytest.mark.parametrize("said", WAITS)
def test_a_wait_is_read_as_seconds_or_as_a_time(said):
    wait = retry_after({"retry-after": said, "date": "Mon, 30 Nov 2026 12:00:00 GMT"})
    assert wait == pytest.approx(WAITS[said], nan_ok=True)


# ---------------------------------------------------------------- runs that end early

CHILD = """
import sys
from mmpc_analysis.catalogue.downloads import fetch_pictures
from mmpc_analysis.catalogue.picture_requests import FetchLimits
url, folder = sys.argv[1:]
print("begins", flush=True)
rows = fetch_pictures([f"{url}/{n}.png" for n in range(60)], folder, private=True, progress=False, limits=FetchLimits(pause=0.01))
print(rows.attrs["requests"])
"""


def child(url, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    told = [sys.executable, "-c", textwrap.dedent(CHILD), url, str(folder)]
    return subprocess.Popen(told, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_that_is_killed_goes_on_where_it_stood(tmp_path):
    def slow(n):
        async def told(writer):
            await asyncio.sleep(0.05)
            writer.write(answer(picture(n)))

        return told

    with served(Shop({f"/{n}.png": slow(n) for n in range(60)})) as shop:
        run = child(shop.url, tmp_path)
        while sum(shop.asked.values()) < 48 and run.poll() is None:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        asked, known = sum(shop.asked.values()), len(read_journal(tmp_path))
        assert run.returncode == -signal.SIGKILL and 0 < known < 60, (run.returncode, known)
        for path in files_of(
            tmp_path
        ):  # Whole or not there; a partial file is never one of the names that are used
            if not path.endswith(".partial"):
                assert hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() in path
        run = child(shop.url, tmp_path)
        said, problem = run.communicate(timeout=60)
        assert run.returncode == 0, problem
        assert int(said.split()[-1]) == 60 - known == sum(shop.asked.values()) - asked
    rows = read_journal(tmp_path)
    assert rows["outcome"].tolist() == ["stored"] * 60 and rows["image"].nunique() == 60
    wanted = {hashlib.sha256(picture(n)).hexdigest() for n in range(60)}
    assert {Path(path).stem for path in files_of(tmp_path) if not path.endswith(".partial")} == wanted


def test_ctrl_c_leaves_what_is_known(tmp_path):
    async def waits(writer):
        await asyncio.sleep(20)

    script = {f"/{n}.png": answer(picture(n)) if n < 8 else waits for n in range(60)}
    with served(Shop(script)) as shop:
        run = child(shop.url, tmp_path)
        while sum(shop.asked.values()) < 12 and run.poll() is None:
            time.sleep(0.01)
        time.sleep(0.3)
        run.send_signal(signal.SIGINT)
        _, problem = run.communicate(timeout=30)
    assert "KeyboardInterrupt" in problem.splitlines()[-1]
    rows = read_journal(tmp_path)
    assert rows["outcome"].tolist() == ["stored"] * 8


def test_a_full_disk_ends_the_run_with_what_is_known(tmp_path, monkeypatch):
    written, write = [], downloads.store.write_bytes

    def until_full(path, data):
        if len(written) >= 3:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write(path, data)

    with served(Shop({f"/{n}": answer(picture(n)) for n in range(9)})) as shop:
        monkeypatch.setattr(downloads.store, "write_bytes", until_full)
        monkeypatch.setattr(downloads, "append_journal", lambda folder, rows: kept.extend(rows))
        kept = []
        with pytest.raises(OSError, match="No space"):
            fetch([f"{shop.url}/{n}" for n in range(9)], tmp_path, private=True, per_host=1)
    assert [row["outcome"] for row in kept] == ["stored"] * 3


def test_it_works_where_a_loop_is_running(tmp_path):
    async def as_in_a_notebook():
        return fetch([f"{shop.url}/1.png"], tmp_path, private=True)

    with served(Shop({"/1.png": answer(picture(1))})) as shop:
        assert asyncio.run(as_in_a_notebook())["outcome"].tolist() == ["stored"]


# ---------------------------------------------------------------- the journal, and catalogues


def test_a_journal_keeps_the_latest_row_of_an_address(tmp_path):
    for n in range(12):
        append_journal(
            tmp_path, [{"address": f"https://h.example/{n % 5}", "outcome": "failed", "reason": f"try {n}"}]
        )
    before = read_journal(tmp_path).set_index("address")["reason"].to_dict()
    assert before == {f"https://h.example/{n % 5}": f"try {n}" for n in range(7, 12)}
    compact_journal(tmp_path)
    assert read_journal(tmp_path).set_index("address")["reason"].to_dict() == before
    assert len(list((tmp_path / "journal").iterdir())) == 1


def test_a_foreign_journal_names_no_file_elsewhere(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"x")
    images = [
        "../secret.jpg",
        "/etc/passwd",
        "secret.jpg",
        f"aa/{'a' * 64}.jpg/../../secret.jpg",
        f"aa/{'a' * 64}.jpg",
    ]
    append_journal(
        tmp_path / "d",
        [{"address": f"https://h.example/{i}", "outcome": "stored", "image": i} for i in images],
    )
    assert stored_pictures(tmp_path / "d") == {}


def test_the_addresses_of_a_catalogue(tmp_path):
    from dataclasses import replace

    titles = pd.DataFrame(
        {"item_id": ["a", "b", "c"], "title": ["A shirt", "A shoe", "A sock"], "category": "wear"}
    )
    rows = [
        ("a", 1, "https://h.example/a1.jpg"),
        ("a", 2, "https://h.example/a2.jpg"),
        ("b", 1, "b.jpg"),
        ("b", 2, "//h.example/b2.jpg"),
    ]
    rows += [("c", 1, "https://h.example/a1.jpg"), ("gone", 1, "https://h.example/g.jpg")]
    pictures = validate(pd.DataFrame(rows, columns=PICTURES.names), PICTURES)
    catalogue = replace(load_catalogue(titles, root=tmp_path), pictures=pictures)
    assert named_addresses(catalogue) == ["https://h.example/a1.jpg", "https://h.example/g.jpg"]
    assert named_addresses(catalogue, first=False) == [
        "https://h.example/a1.jpg",
        "https://h.example/a2.jpg",
        "//h.example/b2.jpg",
        "https://h.example/g.jpg",
    ]
    here = catalogue.items.assign(image=["a.png", None, None])
    assert named_addresses(replace(catalogue, items=here)) == [
        "https://h.example/a1.jpg",
        "https://h.example/g.jpg",
    ]
    without_c = replace(catalogue, items=here, pictures=pictures[pictures["item_id"] != "c"])
    assert named_addresses(without_c) == ["https://h.example/g.jpg"]


def test_reasons_are_counted_by_their_kind():
    reasons = ["answered 404"] * 3 + [
        "a.example: 10.0.0.5 lies inside a network; x",
        "b.example: 10.0.0.7 lies inside a network; x",
        None,
    ]
    rows = pd.DataFrame({"outcome": ["failed"] * 3 + ["refused"] * 2 + ["stored"], "reason": reasons})
    shown = [
        "Pictures by address: 1 stored, 2 refused, 3 failed.",
        "  3 x answered 404",
        "  and 1 more reasons",
    ]
    assert download_summary(rows, 1) == shown
    assert download_summary(rows)[2] == "  2 x its number lies inside a network"


def test_no_answer_stops_a_run(tmp_path):
    "Answers with bytes changed, inserted and left out at random: each is a row, and only whole pictures are kept."
    import numpy as np

    rng, plain, script = np.random.default_rng(14), answer(picture(1)), {}
    heads = [
        answer(status=302, Location="/x\xff\xfe"),
        answer(status=302, Location="http://h.example:99999/"),
        answer(status=999),
    ]
    for n in range(150):
        data = bytearray([plain, *heads][n % 4])
        for place in rng.integers(0, min(len(data), 120), 3):
            data[place : place + int(rng.integers(0, 3))] = rng.bytes(int(rng.integers(0, 4)))
        script[f"/{n}"] = bytes(data)
    with served(Shop(script)) as shop:
        rows = fetch(
            [shop.url + path for path in script],
            tmp_path,
            FetchLimits(idle=0.5, seconds=1, tries=1, silent=999, pause=0),
            private=True,
            per_host=16,
        )
    assert len(rows) == 150 and set(rows["outcome"]) <= {"stored", "refused", "failed"}
    assert rows["outcome"].nunique() == 3


# ---------------------------------------------------------------- one that holds the others up


def test_a_host_that_is_always_busy_is_left_for_another_run(tmp_path):
    busy = answer(status=429, Retry_After="0")
    with served(Shop({f"/{n}": busy for n in range(60)})) as shop:
        rows = fetch(
            [f"{shop.url}/{n}" for n in range(60)], tmp_path, FetchLimits(pause=0, silent=6), private=True
        )
    assert set(rows["outcome"]) == {"failed"} and sum(shop.asked.values()) <= 12 + 4
    assert rows["reason"].str.contains("its host was too busy").sum() >= 50


def test_names_that_are_never_found_hold_nobody_up(tmp_path, monkeypatch):
    import socket
    import threading

    found, ready = socket.getaddrinfo, threading.Event()

    def slow(host, *args, **kwargs):
        if str(host).endswith("slow.example"):
            ready.wait(20)
            raise OSError("nobody knows it")
        return found("127.0.0.1" if host == "quick.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with served(Shop({f"/{n}": answer(picture(n)) for n in range(20)})) as shop:
        addresses = [f"http://{n}.slow.example/x.png" for n in range(40)]
        addresses += [f"http://quick.example:{shop.port}/{n}" for n in range(20)]
        limits = FetchLimits(idle=1.5, tries=1)
        rows = fetch(addresses, tmp_path, limits, private=True, workers=50)
    ready.set()
    assert rows["outcome"].tolist() == ["failed"] * 40 + ["stored"] * 20


def test_a_row_of_a_forged_journal_is_not_taken_for_a_picture(tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(9))
    folder = tmp_path / "there"
    with served(Shop({"/1": answer(picture(1)), "/2": answer(picture(2)), "/3": answer(picture(3))})) as shop:
        names = {"/1": "../secret.png", "/2": str(tmp_path / "secret.png"), "/3": "journal/../../secret.png"}
        forged = [
            {"address": shop.url + at, "outcome": "stored", "image": name, "sha256": "0" * 64, "bytes": 1}
            for at, name in names.items()
        ]
        append_journal(folder, forged)
        rows = fetch([shop.url + at for at in names], folder, private=True)
    assert rows["outcome"].tolist() == ["stored"] * 3 and set(rows["bytes"]) != {1}
    assert all(name.count("/") == 1 and ".." not in name for name in rows["image"])


def test_two_processes_bring_one_journal_into_one_file_at_once(tmp_path):
    import threading

    def add(at):
        for n in range(12):
            append_journal(
                tmp_path, [{"address": f"http://h.example/{at}/{n}", "outcome": "failed", "reason": "x"}]
            )
            try:
                compact_journal(tmp_path)
                read_journal(tmp_path)
            except Exception as error:
                problems.append(error)

    problems = []
    threads = [threading.Thread(target=add, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert set(read_journal(tmp_path)["address"]) == {
        f"http://h.example/{at}/{n}" for at in range(4) for n in range(12)
    }
