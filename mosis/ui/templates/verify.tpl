% page.script("fragment.js")
% rebase("layout.tpl", title=t("verify.title"), shape="narrow")
<h1>{{t("verify.title")}}</h1>
<form method="post" action="{{url("/console/verify")}}">
% include("form_token.tpl")
<div data-fragment-field>
% include("field.tpl", name="token", label=t("field.token"), fragment=True, most=100, hint=t("field.token_hint"))
</div>
% if not page.signed_in:
%     include("field.tpl", name="password", label=t("verify.password"), kind="password", complete="current-password", hint=t("verify.password_hint"))
%     if page.problem and page.problem.code == "invalid_credentials":
<label><input type="checkbox" name="claim" value="yes"> {{t("verify.claim")}}</label>
%     end
% end
<button>{{t("verify.do")}}</button>
</form>
