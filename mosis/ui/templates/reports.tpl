% rebase("layout.tpl", title=t("reports.title"))
<h1>{{t("reports.title")}}</h1>
% if not groups:
<p>{{t("reports.none")}}</p>
% end
<ol class="queue">
% for group, app, reasons in groups:
<li>
% if app.status == "published":
<img src="{{url("/assets/" + app.id + "/icon-64.png")}}" alt="" width="48" height="48" loading="lazy">
% else:
<span class="no-icon"></span>
% end
<div>
<a href="{{url("/console/reports/" + app.package_id)}}"><strong>{{app.name}}</strong></a>
<small><code>{{app.package_id}}</code>, {{t("state." + app.status)}}</small>
<ul class="labels">
<li>{{t("reports.count", count=group.reports, sources=group.sources)}}</li>
%     if group.verified:
<li class="warning">{{t("reports.verified", count=group.verified)}}</li>
%     end
%     for reason, count in reasons.items():
<li>{{t("report_reason." + reason)}}: {{count}}</li>
%     end
</ul>
</div>
<small class="when">{{t("reviews.since")}} <time datetime="{{group.first_at}}">{{minute_of(group.first_at)}}</time></small>
</li>
% end
</ol>
% if next_cursor:
<p><a href="{{url("/console/reports", cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
% end
