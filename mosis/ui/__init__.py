"""The pages: HTML from templates, over the same domain functions as the API.

pages.py       the plugin that every page passes: session, form token, errors as pages, headers, cache
rendering.py   templates, messages, addresses, and how dates and sizes are shown
forms.py       reading a form
navigation.py  the links of the console
assets.py      style sheets and scripts
store.py       the store front, for everybody
sign_in.py, account_links.py, device.py, setup.py   getting in
console.py     the overview and the notifications of who is signed in
apps.py, quality.py, charts.py   a developer's apps, versions and figures      account.py   the account
reviews.py     the review desk      admin.py   the operator's page

How to add a page
-----------------
1. A handler in a module of this package. It takes `page`, and by name what it needs of `env`, `db`, `caller` and the
   parts of its address; it calls domain functions and returns `page.render("reviews.tpl", reviews=...)`. No SQL, no
   rules. `page.see_other("/console/reviews")` answers 303, which is how every form ends that has worked.

       def index(db: Connection, page: Page) -> bytes:
           \"""Versions that wait for a reviewer.\"""
           return page.render("reviews.tpl", reviews=reviews.index(db, page.request()))

2. Its line in `routes()` of that module, through `pages.add`, and the module in `mosis/application.py`:

       add(app, "GET", "/console/reviews", index, scope="reviewer")
       add(app, "POST", "/console/reviews/<review>/approve", approve, scope="reviewer", again=show)

   scope   "public" (the same for everybody, no cookie is looked at, cached), "visitor" (anybody, and knows who is signed
           in), "account" (signed in, else sent to sign in and back), or a role (else 403).
   again   for a POST: the handler of the page with the form. When the POST is refused, that page is shown again with the
           status of the refusal, `page.problem` (shown by the layout), `page.error_of(field)`, and what was typed in
           `page.typed(field)`.
   lane    as in mosis/web/plugins.py, such as "passwords" where one is hashed.
   cache, cache_control, limit   as there.

   The plugin has checked by then that a POST comes from a page of ours: `Sec-Fetch-Site` or `Origin`, and the form token.

3. Its template in `templates/`, which begins with `% rebase("layout.tpl", title=t("reviews.title"))`. Every form with
   method="post" has `% include("form_token.tpl")`. `{{value}}` is escaped; `{{!value}}` is not and is allowed for three
   names alone (a test holds that). Attribute values stand in double quotes. `t("key", name=value)` is a message,
   `url("/console/")` an address of this portal, `time_of(stamp)`, `size_of(size_bytes)` show times and sizes.
4. Its texts in `messages/en.json`; a test says which are missing or not used.
5. Its link in `navigation.py`, where it belongs into the console's navigation.
6. Its row in docs/API.md, "Pages".
7. A test in `tests/ui/` with `Browser` of `tests/browser.py`, which keeps cookies and sends forms as a browser does.

Scripts are files in `assets/`, loaded with `page.script("name.js")`; a page works without them. There is no inline
script, no inline style and no style attribute: the Content-Security-Policy forbids them.
"""
