"""The pages: HTML from templates, over the same domain functions as the API.

pages.py       the plugin of all pages: session, form token, errors as pages, headers, cache
rendering.py   templates, messages, the format of dates and sizes, the navigation of the console
forms.py       reading forms
assets.py      style sheets and scripts
store.py       the public store front
sign_in.py, account_links.py, device.py   sign-in
console.py     the overview and the notifications of the signed-in account
apps.py, quality.py, charts.py   a developer's apps, versions and figures
members.py, trusted_publishers.py, rollout_plans.py   who works on an app, build servers, rollout plans
account.py     the account; second_factor.py its second factor
reviews.py     the review desk; listing_changes.py its part for what the store shows
abuse_reports.py   reports of abuse: the form for everybody, and the reviewer's pages
admin.py       the operator's pages

How to add a page
-----------------
1. A handler in a module of this package. It has a parameter `page`, and those it needs of `env`, `db`, `caller` and the
   variables of its route; it calls domain functions and returns `page.render("reviews.tpl", reviews=...)`. No SQL, no
   rules. `page.see_other("/console/reviews")` answers 303, the response to every successful form.

       def index(db: Connection, page: Page) -> bytes:
           \"""Versions that wait for a reviewer.\"""
           return page.render("reviews.tpl", reviews=reviews.index(db, page.request()))

2. Its line in `routes()` of that module, in a `Section` of pages, and a new module in `PAGES` of `mosis/commands/application.py`:

       pages = Section(app, "/console/reviews", scope="reviewer", again=show)
       pages.get("", index)
       pages.post("/<review>/approve", approve)

   scope   "public" (the same for all callers, ignores cookies, cached), "visitor" (everybody; the caller is known if signed
           in), "account" (signed in, otherwise redirected to sign in and back), or a role (otherwise 403).
   again   for a POST: the handler of the page with the form. If the POST fails, that page is shown again with the
           status of the error, `page.problem` (shown by the layout), `page.error_of(field)`, and the submitted values
           in `page.typed(field)`.
   lane    as in mosis/web/plugins.py, such as "passwords" for handlers that hash one.
   cache, cache_control, limit   as there.

   Before the handler runs, the plugin has verified that a POST comes from a page of this portal, by `Sec-Fetch-Site`
   or `Origin`, and by the form token.

3. Its template in `templates/`, which begins with `% rebase("layout.tpl", title=t("reviews.title"))`. Every form with
   method="post" has `% include("form_token.tpl")`. `{{value}}` is escaped; `{{!value}}` is not, and a test allows it for three
   names only. Attribute values are in double quotes. `t("key", name=value)` is a message,
   `url("/console/")` an address of this portal, `time_of(stamp)`, `size_of(size_bytes)` show times and sizes.
4. Its texts in `messages/en.json`; a test reports missing and unused ones.
5. Its link in `NAVIGATION` of `rendering.py`, if the page belongs to the console's navigation.
6. Its row in docs/API.md, "Pages".
7. A test in `tests/ui/` with `Browser` of `tests/browser.py`, which handles cookies and forms as a browser does.

Scripts are files in `assets/`, loaded with `page.script("name.js")`; pages must work without them. Inline
scripts, inline styles and style attributes are forbidden by the Content-Security-Policy.
"""
