% rebase("layout.tpl", title=t("sign_in.title"), shape="narrow")
<h1>{{t("sign_in.title")}}</h1>
<form method="post" action="{{url("/console/sign-in")}}">
% include("form_token.tpl")
<input type="hidden" name="next" value="{{page.next_path()}}">
% include("field.tpl", name="email", label=t("field.email"), kind="email", complete="username", most=254)
% include("field.tpl", name="password", label=t("field.password"), kind="password", complete="current-password")
<button>{{t("sign_in.do")}}</button>
</form>
% include("providers.tpl")
<p class="links"><a href="{{url("/console/register")}}">{{t("sign_in.register")}}</a> <a href="{{url("/console/reset")}}">{{t("sign_in.forgot")}}</a></p>
