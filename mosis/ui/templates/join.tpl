% page.script("fragment.js")
% rebase("layout.tpl", title=t("join.title"), shape="narrow")
<h1>{{t("join.title")}}</h1>
% if not page.signed_in:
<p>{{t("join.sign_in_first")}}</p>
<p class="links"><a href="{{url("/console/sign-in")}}">{{t("sign_in.title")}}</a> <a href="{{url("/console/register")}}">{{t("sign_in.register")}}</a></p>
% else:
<p>{{t("join.about")}}</p>
<form method="post" action="{{url("/console/join")}}">
% include("form_token.tpl")
<div data-fragment-field>
% include("field.tpl", name="token", label=t("field.token"), fragment=True, most=100, hint=t("field.token_hint"))
</div>
<button>{{t("join.read")}}</button>
</form>
% end
