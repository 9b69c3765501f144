<form method="post" action="{{url(action)}}">
% include("form_token.tpl")
% include("text_field.tpl", name="steps", label=t("plan.steps"), rows=4, most=1000, hint=t("plan.steps_hint"), value=page.typed("steps") or values["steps"], form_id="plan-")
% include("field.tpl", name="crash_free_below", label=t("plan.crash_free"), most=6, optional=True, mode="decimal", hint=t("plan.crash_free_hint"), value=page.typed("crash_free_below") or values["crash_free_below"])
% include("field.tpl", name="sessions_at_least", label=t("plan.sessions"), most=7, optional=True, mode="numeric", value=page.typed("sessions_at_least") or values["sessions_at_least"])
<button class="secondary">{{t("plan.save")}}</button>
</form>
% if values["steps"]:
<form method="post" action="{{url(action)}}">
%     include("form_token.tpl")
<input type="hidden" name="remove" value="yes">
<button class="quiet">{{t("plan.remove")}}</button>
</form>
% end
