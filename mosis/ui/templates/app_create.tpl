% rebase("layout.tpl", title=t("app_create.title"), shape="narrow")
<h1>{{t("app_create.title")}}</h1>
<form method="post" action="{{url("/console/apps")}}">
% include("form_token.tpl")
% include("field.tpl", name="name", label=t("field.app_name"), most=50)
% include("field.tpl", name="package_id", label=t("app.package_id"), most=255, hint=t("app_create.hint"))
<button>{{t("app_create.do")}}</button>
</form>
