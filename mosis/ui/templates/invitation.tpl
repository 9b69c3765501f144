% page.script("fragment.js")
% rebase("layout.tpl", title=t("invitation.title"), shape="narrow")
<h1>{{t("invitation.title")}}</h1>
<p>{{t("invitation.about")}}</p>
<form method="post" action="{{url("/console/invitation")}}">
% include("form_token.tpl")
<div data-fragment-field>
% include("field.tpl", name="invitation", label=t("field.token"), fragment=True, most=100, hint=t("field.token_hint"))
</div>
% include("field.tpl", name="name", label=t("field.name"), complete="name", most=100, hint=t("field.name_hint"))
% include("field.tpl", name="email", label=t("field.email"), kind="email", complete="username", most=254, hint=t("invitation.email_hint"))
% include("field.tpl", name="password", label=t("field.password"), kind="password", complete="new-password", hint=t("field.password_hint"))
<button>{{t("register.do")}}</button>
</form>
