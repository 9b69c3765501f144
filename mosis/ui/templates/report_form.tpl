% rebase("layout.tpl", title=t("report.title", name=app.name), shape="narrow")
<p class="links"><a href="{{url("/app/" + app.package_id)}}">{{app.name}}</a></p>
<h1>{{t("report.title", name=app.name)}}</h1>
<p>{{t("report.about")}}</p>
<form method="post" action="{{url("/app/" + app.package_id + "/report")}}">
% include("form_token.tpl")
<label for="field-reason">{{t("report.reason")}}</label>
<select id="field-reason" name="reason">
% for reason in reasons:
<option value="{{reason}}" {{"selected" if page.typed("reason") == reason else ""}}>{{t("report_reason." + reason)}}</option>
% end
</select>
% include("text_field.tpl", name="text", label=t("report.text"), most=2000, rows=5, hint=t("report.text_hint"))
% include("field.tpl", name="email", label=t("report.email"), kind="email", most=254, optional=True, complete="email", hint=t("report.email_hint"))
<button>{{t("report.send")}}</button>
</form>
