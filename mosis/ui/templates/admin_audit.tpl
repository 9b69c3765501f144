% rebase("layout.tpl", title=t("admin.audit"))
<h1>{{t("admin.audit")}}</h1>
% include("admin_links.tpl", place="/audit")
<form method="get" action="{{url("/console/admin/audit")}}" class="columns">
<div>
<label for="action">{{t("admin.action")}}</label>
<input id="action" name="action" value="{{action}}" maxlength="100" placeholder="version.uploaded">
</div>
<div>
<label for="owner">{{t("admin.owner")}}</label>
<input id="owner" name="owner" value="{{owner}}" maxlength="100">
</div>
<button class="secondary">{{t("store.find")}}</button>
</form>
<ul class="rows">
% for entry, facts in entries:
<li><div><code>{{entry.action}}</code> <small><time datetime="{{entry.at}}">{{minute_of(entry.at)}}</time>, {{t("admin.number", number=entry.number)}}{{", " + t("admin.by", who=entry.actor_id) if entry.actor_id else ""}}{{", " + entry.address if entry.address else ""}}<br>{{facts}}</small></div></li>
% end
</ul>
% if next_cursor:
<p><a href="{{url("/console/admin/audit", action=action, owner=owner, cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
% end
