% rebase("layout.tpl", title=t("admin.apps"))
<h1>{{t("admin.apps")}}</h1>
% include("admin_links.tpl", place="/apps")
% include("admin_search.tpl", action="/console/admin/apps")
<ul class="rows">
% for app in apps:
<li><div><strong>{{app.name}}</strong> <code>{{app.package_id}}</code> <small>{{t("state." + app.status)}}</small></div>
<form method="post" action="{{url("/console/admin/apps/" + app.package_id + "/suspended")}}" class="inline-form">
%     include("form_token.tpl")
<label class="hidden" for="reason-{{app.id}}">{{t("admin.reason_for", name=app.name)}}</label>
<input id="reason-{{app.id}}" name="reason" maxlength="500" required placeholder="{{t("move.reason")}}">
<button name="suspended" value="{{"no" if app.suspended else "yes"}}" class="quiet">{{t("admin.unsuspend" if app.suspended else "admin.suspend")}}<span class="hidden"> {{app.name}}</span></button>
</form>
</li>
% end
</ul>
% if next_cursor:
<p><a href="{{url("/console/admin/apps", q=query, cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
% end
