"""The API's description, the page that shows it, and our documents as pages."""

import hashlib
import re
from html import escape

import pytest

import portal
from mosis.problems import PROBLEMS
from tests.client import Client

ASSETS = portal.HERE / "mosis/web/assets"


def test_the_description_is_public_and_kept_by_its_tag(client: Client) -> None:
    first = client.get("/openapi.json").expect(200)
    assert first["openapi"] == "3.1.0"
    assert first["info"]["version"] == portal.VERSION
    assert first["servers"] == [{"url": client.env.config.base_url}]
    client.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]}).expect(304)


def test_a_problem_points_to_the_line_that_explains_it(client: Client) -> None:
    refused = client.get("/v1/apps").expect(401)
    address, _, anchor = refused["type"].partition("#")
    page = client.get(address).expect(200).body.decode()
    assert f'<h2 id="{anchor}">' in page
    for code in PROBLEMS:
        found = re.search(rf'<h2 id="{code}">.*?</h2>\n<p>.*?</p>\n<p>(.+?)</p>', page, re.DOTALL)
        assert found, f"{code} is not explained"


def test_every_document_is_a_page_whose_links_lead_somewhere(client: Client) -> None:
    names = [str(path).partition("/docs/")[2][:-3] for path in (portal.HERE / "docs").rglob("*.md")]
    for name in names:
        page = client.get(f"/docs/{name}").expect(200)
        text = page.body.decode()
        assert page.headers["content-type"] == "text/html; charset=utf-8", name
        assert "default-src 'none'" in page.headers["content-security-policy"], name
        assert "<script" not in text, name
        for anchor in re.findall(r'href="#([^"]+)"', text):
            assert f'id="{anchor}"' in text, (name, anchor)
        assert {*re.findall(r'href="([A-Z][A-Za-z_]+)(?:#[^"]*)?"', text)} <= {*names}, name
    assert len(names) > 20


def test_the_documents_are_searched(client: Client) -> None:
    text = client.get("/docs/search?q=rollout+plan").expect(200).body.decode()
    first = re.search(r'<h2><a href="([^"]+)">', text)
    assert first
    assert first[1] == "API#rollout-plans"
    assert "<mark>Rollout</mark>" in text or "<mark>rollout</mark>" in text
    for address in re.findall(r'<h2><a href="([^"]+)">', text):
        document, _, anchor = address.partition("#")
        page = client.get(f"/docs/{document}").expect(200).body.decode()
        assert f'id="{anchor}"' in page, address


def test_every_section_can_be_found_and_leads_to_its_heading(client: Client) -> None:
    from mosis.web import docs_search

    sections = docs_search._sections()
    assert len(sections) > 100
    pages: dict[str, str] = {}
    for section in sections:
        if section.document not in pages:
            answer = client.get(f"/docs/{section.document}").expect(200)
            pages[section.document] = answer.body.decode()
        assert f'id="{section.anchor}"' in pages[section.document], section.heading


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        "<script>alert(1)</script>",
        "zzzzqqq",
        "%00",
        "a" * 100,
        "( [ * \\ .",
        "ü 天",
        "&amp;",
    ],
)
def test_a_search_shows_what_was_typed_as_text(client: Client, query: str) -> None:
    from urllib.parse import quote

    answer = client.get(f"/docs/search?q={quote(query)}")
    text = answer.body.decode()
    assert answer.status in (200, 400)
    assert "<script" not in text
    if answer.status == 200:
        assert f'value="{escape(query)}"' in text
        assert "form-action 'self'" in answer.headers["content-security-policy"]
    client.get("/docs/search?q=" + "a" * 101).expect(400)
    client.get("/docs/search").expect(200)


@pytest.mark.parametrize(
    "name", ["nothing", "..%2F..%2Fsetup.cfg", "decisions", "%2e%2e", "API.md"]
)
def test_only_documents_are_pages(client: Client, name: str) -> None:
    client.get(f"/docs/{name}").expect(404, "not_found")
    client.get(f"/docs/assets/{name}").expect(404, "not_found")


def test_the_page_loads_nothing_from_elsewhere_and_nothing_without_its_nonce(
    client: Client,
) -> None:
    page = client.get("/docs").expect(200)
    text, policy = page.body.decode(), page.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
    assert nonce
    assert "unsafe" not in policy
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    assert text.count(f'nonce="{nonce[1]}"') == len(re.findall("<(?:script|style)", text)) == 3
    assert nonce[1] not in client.get("/docs").headers["content-security-policy"]
    for source in re.findall(r'<script src="([^"]+)"', text):
        assert (
            client.get("/" + source)
            .expect(200)
            .headers["content-type"]
            .startswith("text/javascript")
        )


def test_the_renderer_is_the_one_that_is_written_down() -> None:
    digest = hashlib.sha256((ASSETS / "redoc.standalone.js").read_bytes()).hexdigest()
    assert digest in (ASSETS / "README.md").read_text()


def test_the_schema_of_the_manifest_is_served_under_its_own_id(client: Client) -> None:
    served = client.get("/docs/manifest.schema.json", headers={"Origin": "https://editor.example"})
    served.expect(200)
    assert served.headers["content-type"] == "application/schema+json"
    assert served.headers["access-control-allow-origin"] == "*"
    assert served["$id"] == client.env.config.base_url + "/docs/manifest.schema.json"
