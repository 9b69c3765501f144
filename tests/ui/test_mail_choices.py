"""The choice of mails, on the page that every mail links to."""

from mosis import events
from mosis.notifications import mails
from tests.browser import Browser, forms_of, text_of
from tests.client import Answer, Client

PATH = "/console/notifications/mail"


def choose(browser: Browser, page: Answer, *kinds: str) -> Answer:
    """Send the form with these boxes ticked."""
    form = next(each for each in forms_of(page) if each.action == PATH)
    hidden = [(name, value) for name, value in form.fields if name != "mail"]
    return browser.post(PATH, hidden + [("mail", kind) for kind in kinds])


def test_mails_are_chosen_on_the_page_that_they_link_to(client: Client) -> None:
    browser = Browser(client)
    browser.register()
    page = browser.open(mails.SETTINGS.partition("#")[0])
    text = page.body.decode()
    assert 'id="mail"' in text
    for kind in events.KINDS:
        assert f'value="{kind}"' in text
    assert "An API key ends soon" in text_of(page)
    page = choose(browser, page, "version.published", "key.expiring")
    assert "Your choice is saved." in text_of(page)
    db = client.env.db.connection()
    (account,) = db.all("SELECT id FROM developers")[0]
    chosen = events.mail_choices(db, account)
    assert [kind for kind, mailed in chosen.items() if mailed] == [
        "version.published",
        "key.expiring",
    ]
    assert page.body.decode().count(" checked>") == 2
    choose(browser, page)
    assert not any(events.mail_choices(db, account).values())


def test_a_kind_that_does_not_exist_is_refused(client: Client) -> None:
    browser = Browser(client)
    browser.register()
    page = browser.open("/console/notifications")
    assert choose(browser, page, "version.nothing").status == 422
