% page.script("fragment.js")
% rebase("layout.tpl", title=t("setup.title"), shape="narrow")
<h1>{{t("setup.title")}}</h1>
<p>{{t("setup.about")}}</p>
<form method="post" action="{{url("/setup")}}">
% include("form_token.tpl")
<div data-fragment-field>
% include("field.tpl", name="token", label=t("setup.token"), fragment=True, most=100, hint=t("setup.token_hint"))
</div>
% include("field.tpl", name="name", label=t("field.name"), complete="name", most=100)
% include("field.tpl", name="email", label=t("field.email"), kind="email", complete="username", most=254)
% include("field.tpl", name="password", label=t("field.password"), kind="password", complete="new-password", hint=t("field.password_hint"))
<button>{{t("setup.do")}}</button>
</form>
