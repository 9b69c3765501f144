% rebase("layout.tpl", title=t("recovery_codes.title"), shape="narrow")
<h1>{{t("recovery_codes.title")}}</h1>
<p>{{t("recovery_codes.about")}}</p>
<ul>
% for code in codes:
<li><code>{{code}}</code></li>
% end
</ul>
<p><a href="{{url("/console/second-factor")}}">{{t("recovery_codes.done")}}</a></p>
