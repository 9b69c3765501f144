% rebase("layout.tpl", title=t("device.title"), shape="narrow")
<h1>{{t("device.title")}}</h1>
<p>{{t("device.about")}}</p>
<form method="get" action="{{url("/console/device")}}">
% include("field.tpl", name="code", label=t("device.code"), most=20, hint=t("device.code_hint"))
<button>{{t("device.go_on")}}</button>
</form>
