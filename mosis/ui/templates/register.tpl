% rebase("layout.tpl", title=t("register.title"), shape="narrow")
<h1>{{t("register.title")}}</h1>
% if registration == "open":
<form method="post" action="{{url("/console/register")}}">
%     include("form_token.tpl")
%     include("field.tpl", name="name", label=t("field.name"), complete="name", most=100, hint=t("field.name_hint"))
%     include("field.tpl", name="email", label=t("field.email"), kind="email", complete="username", most=254)
%     include("field.tpl", name="password", label=t("field.password"), kind="password", complete="new-password", hint=t("field.password_hint"))
<button>{{t("register.do")}}</button>
</form>
%     include("providers.tpl")
% else:
<p>{{t("register." + registration)}}</p>
% end
<p class="links"><a href="{{url("/console/sign-in")}}">{{t("register.sign_in")}}</a></p>
