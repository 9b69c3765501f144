% rebase("layout.tpl", title=t("second_step.title"), shape="narrow")
<h1>{{t("second_step.title")}}</h1>
<form method="post" action="{{url("/console/sign-in/code")}}">
% include("form_token.tpl")
<input type="hidden" name="next" value="{{page.next_path()}}">
<input type="hidden" name="ticket" value="{{ticket}}">
% include("field.tpl", name="code", label=t("field.code"), complete="one-time-code", most=40, hint=t("field.code_hint"))
<button>{{t("sign_in.do")}}</button>
</form>
<p class="links"><a href="{{url("/console/sign-in")}}">{{t("second_step.again")}}</a></p>
