% page.script("fragment.js")
% rebase("layout.tpl", title=t("reset.title"), shape="narrow")
<h1>{{t("reset.title")}}</h1>
% has_token = bool(page.typed("token"))
<form method="post" action="{{url("/console/reset/ask")}}" data-without-token {{"hidden" if has_token else ""}}>
<p>{{t("reset.about")}}</p>
% include("form_token.tpl")
% include("field.tpl", name="email", label=t("field.email"), kind="email", complete="username", most=254)
<button>{{t("reset.ask")}}</button>
</form>
<details data-with-token {{"open" if has_token else ""}}>
<summary>{{t("reset.have_token")}}</summary>
<form method="post" action="{{url("/console/reset")}}">
% include("form_token.tpl")
<div data-fragment-field>
% include("field.tpl", name="token", label=t("field.token"), fragment=True, most=100, hint=t("field.token_hint"))
</div>
% include("field.tpl", name="new_password", label=t("field.new_password"), kind="password", complete="new-password", hint=t("field.password_hint"))
<button>{{t("reset.do")}}</button>
</form>
</details>
<p class="links"><a href="{{url("/console/sign-in")}}">{{t("register.sign_in")}}</a></p>
