% page.script("live.js")
% rebase("layout.tpl", title=t("overview.title"))
<h1>{{t("overview.hello", name=account.name)}}</h1>
% if not account.email_verified:
<form method="post" action="{{url("/console/verify/resend")}}" class="notice inline">
%     include("form_token.tpl")
<span>{{t("overview.unverified", email=account.email)}}</span>
<button class="quiet">{{t("overview.resend")}}</button>
</form>
% end
<div id="live-overview" data-live>
% if unread:
<p><a href="{{url("/console/notifications")}}">{{t("overview.unread", count=unread)}}</a></p>
% end
<h2>{{t("overview.apps")}}</h2>
% if apps:
<ul class="queue">
%     for app, version, next_step, crashes in apps:
<li>
%         if app.status == "published":
<img src="{{url("/assets/" + app.id + "/icon-64.png")}}" alt="" width="48" height="48" loading="lazy">
%         else:
<span class="no-icon"></span>
%         end
<div>
<a href="{{url("/console/apps/" + app.package_id)}}"><strong>{{app.name}}</strong></a> {{version.version if version else ""}}
<small><code>{{app.package_id}}</code></small>
<p class="next">{{next_step}}</p>
<ul class="labels">
<li class="{{app.status}}">{{t("state." + app.status)}}</li>
%         if crashes:
<li class="warning"><a href="{{url("/console/apps/" + app.package_id + "/quality")}}">{{t("overview.crashes", count=crashes)}}</a></li>
%         end
</ul>
</div>
%         if app.status == "published":
<small class="when"><a href="{{url("/app/" + app.package_id)}}">{{t("overview.in_store")}}</a></small>
%         end
</li>
%     end
</ul>
%     if next_cursor:
<p><a href="{{url("/console/", cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
%     end
% else:
<p>{{t("overview.none")}} <a href="{{url("/docs/COOKBOOK")}}">{{t("overview.cookbook")}}</a></p>
% end
</div>
<p><a href="{{url("/console/apps")}}" role="button" class="secondary">{{t("app_create.title")}}</a></p>
