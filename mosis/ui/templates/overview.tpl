% rebase("layout.tpl", title=t("overview.title"))
<h1>{{t("overview.hello", name=account.name)}}</h1>
% if not account.email_verified:
<form method="post" action="{{url("/console/verify/resend")}}" class="notice inline">
%     include("form_token.tpl")
<span>{{t("overview.unverified", email=account.email)}}</span>
<button class="quiet">{{t("overview.resend")}}</button>
</form>
% end
% if unread:
<p><a href="{{url("/console/notifications")}}">{{t("overview.unread", count=unread)}}</a></p>
% end
<h2>{{t("overview.apps")}}</h2>
% if apps:
<div class="scroll">
<table>
<thead><tr><th scope="col">{{t("overview.app")}}</th><th scope="col">{{t("overview.state")}}</th><th scope="col">{{t("overview.latest")}}</th><th scope="col">{{t("overview.next")}}</th></tr></thead>
<tbody>
%     for app, version, next_step in apps:
<tr>
<th scope="row">{{app.name}}<br><small><code>{{app.package_id}}</code></small></th>
<td>{{t("state." + app.status)}}</td>
<td>{{version.version if version else ""}}</td>
<td>{{next_step}}
%         if app.status == "published":
<br><a href="{{url("/app/" + app.package_id)}}">{{t("overview.in_store")}}</a>
%         end
</td>
</tr>
%     end
</tbody>
</table>
</div>
%     if next_cursor:
<p><a href="{{url("/console/", cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
%     end
% else:
<p>{{t("overview.none")}} <a href="{{url("/docs/COOKBOOK")}}">{{t("overview.cookbook")}}</a></p>
% end
