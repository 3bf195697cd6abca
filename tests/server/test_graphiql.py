"""GraphiQL is served whole from this machine and may load nothing from elsewhere."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from server.graphiql import FOLDER, routes

POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; font-src data:; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ASSETS = sorted(path.name for path in (FOLDER / "assets").iterdir())


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Starlette(routes=routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://trellis.test") as client:
        yield client


async def test_every_door_has_the_page_under_a_strict_policy(browser: httpx.AsyncClient) -> None:
    for door in ("agent", "merchant"):
        page = await browser.get(f"/{door}/graphiql")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"] == POLICY
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-cache"
        assert page.text == (FOLDER / "index.html").read_text()


async def test_the_page_names_files_of_its_own_only(browser: httpx.AsyncClient) -> None:
    page = (await browser.get("/agent/graphiql")).text
    named = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sorted(named) == [f"/graphiql/assets/{name}" for name in ASSETS]
    assert [(await browser.get(address)).status_code for address in named] == [200] * len(ASSETS)
    assert re.findall(r"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=", page) == []


@pytest.mark.parametrize(
    ("name", "content_type", "cache"),
    [
        ("graphiql-3.9.0.min.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
        ("graphiql-3.9.0.min.css", "text/css; charset=utf-8", "public, max-age=31536000, immutable"),
        ("page.js", "text/javascript; charset=utf-8", "no-cache"),
        ("icon.svg", "image/svg+xml", "no-cache"),
    ],
)
async def test_a_file_is_kept_as_long_as_its_name_stands_for_its_content(
    browser: httpx.AsyncClient, name: str, content_type: str, cache: str
) -> None:
    answer = await browser.get(f"/graphiql/assets/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert answer.headers["cache-control"] == cache
    assert answer.headers["content-security-policy"] == POLICY
    again = await browser.get(f"/graphiql/assets/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == cache


@pytest.mark.parametrize(
    "address",
    [
        "/graphiql/assets/absent.js",
        "/graphiql/assets/",
        "/graphiql/assets/%2e%2e/README.md",
        "/graphiql/README.md",
    ],
)
async def test_nothing_else_is_served(browser: httpx.AsyncClient, address: str) -> None:
    assert (await browser.get(address)).status_code == 404


def test_no_style_sheet_names_an_address() -> None:
    for name in ASSETS:
        if name.endswith(".css"):
            style = Path(FOLDER / "assets" / name).read_text()
            assert re.findall(r"url\((?!data:)[^)]*\)|@import", style) == []


def test_the_vendored_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 3_000_000
