<nav class="chips" aria-label="{{t("admin.title")}}">
<ul>
% for path, key in (("", "admin.overview"), ("/accounts", "admin.accounts"), ("/apps", "admin.apps"), ("/audit", "admin.audit"), ("/doctor", "admin.doctor")):
<li><a href="{{url("/console/admin" + path)}}" {{"aria-current=page" if place == path else ""}}>{{t(key)}}</a></li>
% end
</ul>
</nav>
