"""Reports of abuse with browsers: a visitor and a reviewer."""

from tests.browser import Browser, forms_of, text_of
from tests.client import Account, Client
from tests.ui.test_security import SCRIPT

NOTES = "com.acme.notes"
FORM, DESK = f"/app/{NOTES}/report", f"/console/reports/{NOTES}"


def published(client: Client) -> Account:
    alice = client.register("alice")
    client.app_of(alice)
    client.published(alice, NOTES)
    return alice


def test_a_visitor_reports_an_app_and_a_reviewer_suspends_it(client: Client, rita: Account) -> None:
    published(client)
    visitor = Browser(client)
    assert FORM in visitor.open(f"/app/{NOTES}").body.decode()
    page = visitor.send(visitor.open(FORM), FORM, reason="privacy", text=" ", email="x")
    assert page.status == 422
    page = visitor.send(page, FORM, reason="privacy", text=SCRIPT, email="eve@example.net")
    assert "The reviewers have your report." in text_of(page)
    reviewer = Browser(client)
    reviewer.sign_in(rita.email)
    queue = reviewer.open("/console/reports")
    assert "Reports: 1, from 1 sources" in text_of(queue)
    page = reviewer.open(DESK)
    body = page.body.decode()
    assert "eve@example.net" in body
    for forbidden in ("<script>alert", "<img src=x"):
        assert forbidden not in body
    assert "&lt;script&gt;" in body
    late = Browser(client)
    late.send(late.open(FORM), FORM, reason="spam", text="Later.")
    page = reviewer.send(page, DESK + "/close", comment="Seen.", outcome="suspended")
    assert "The app is suspended" in text_of(page)
    assert "Reports: 1" in text_of(page)  # what came later is still open
    assert visitor.open(FORM).status == 404
    assert visitor.open(f"/app/{NOTES}").status == 404


def test_the_same_form_twice_and_from_elsewhere(client: Client) -> None:
    published(client)
    visitor = Browser(client)
    page = visitor.open(FORM)
    fields = dict(forms_of(page)[0].fields) | {"reason": "spam", "text": "x"}
    elsewhere = visitor.post(FORM, fields, headers={"Sec-Fetch-Site": "cross-site"})
    assert elsewhere.status == 403
    thief = Browser(client)  # with the token of another browser
    thief.open(FORM)
    assert thief.post(FORM, fields).status == 403
    db = client.env.db.connection()
    assert db.value("SELECT count(*) FROM abuse_reports") == 0


def test_the_desk_is_closed_to_developers(client: Client) -> None:
    alice = published(client)
    browser = Browser(client)
    page = browser.sign_in(alice.email)
    assert "/console/reports" not in page.body.decode()
    for path in ("/console/reports", DESK):
        assert browser.open(path).status == 403
