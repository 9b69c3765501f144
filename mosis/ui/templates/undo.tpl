% page.script("fragment.js")
% rebase("layout.tpl", title=t("undo.title"), shape="narrow")
<h1>{{t("undo.title")}}</h1>
<p>{{t("undo.about")}}</p>
<form method="post" action="{{url("/console/undo")}}">
% include("form_token.tpl")
<div data-fragment-field>
% include("field.tpl", name="token", label=t("field.token"), fragment=True, most=100, hint=t("field.token_hint"))
</div>
<button>{{t("undo.do")}}</button>
</form>
