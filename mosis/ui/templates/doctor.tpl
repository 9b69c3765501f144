% rebase("layout.tpl", title=t("admin.doctor"))
<h1>{{t("admin.doctor")}}</h1>
% include("admin_links.tpl", place="/doctor")
<p>{{t("admin.doctor_about")}}</p>
<dl class="facts checks">
% for line in lines:
<dt>{{line.subject}}</dt><dd class="{{line.level}}"><strong>{{t("doctor." + line.level)}}</strong> {{line.text}}</dd>
% end
</dl>
