% rebase("layout.tpl", title=t("admin.title"))
<h1>{{t("admin.title")}}</h1>
% include("admin_links.tpl", place="")
<section>
<h2>{{t("admin.health")}}</h2>
% if readiness.reasons:
<ul class="findings">
%     for each in readiness.reasons:
<li class="error"><code>{{each["code"]}}</code> {{each["detail"]}}</li>
%     end
</ul>
% else:
<p class="notice" role="status">{{t("admin.well")}}</p>
% end
<dl class="facts">
<dt>{{t("admin.disk")}}</dt><dd>{{count_of(readiness.disk_free_bytes >> 20)}} MiB</dd>
<dt>{{t("admin.queue")}}</dt><dd>{{t("admin.seconds", count=readiness.queue_age_seconds)}}</dd>
<dt>SQLite</dt><dd>{{readiness.sqlite_version}}</dd>
</dl>
% if not has_mail or not has_proxy or not replica:
<h3>{{t("admin.missing")}}</h3>
<ul>
%     if not has_mail:
<li>{{t("admin.no_mail")}}</li>
%     end
%     if not has_proxy:
<li>{{t("admin.no_https")}}</li>
%     end
%     if not replica:
<li>{{t("admin.no_replica")}}</li>
%     end
</ul>
% end
</section>
<section>
<h2>{{t("admin.backups")}}</h2>
<dl class="facts">
<dt>{{t("admin.replica")}}</dt><dd>
% if not replica:
{{t("admin.none")}}
% elif replica.trouble:
{{replica.trouble}}
% else:
{{t("admin.behind", count="%g" % replica.behind_seconds)}}
% end
</dd>
<dt>{{t("admin.drill")}}</dt><dd>
% if drill:
<time datetime="{{drill["at"]}}">{{minute_of(drill["at"])}}</time>: {{t("admin.passed" if drill["passed"] else "admin.failed")}}
%     for each in drill.get("findings", []):
<br>{{each}}
%     end
% else:
{{t("admin.never")}}
% end
</dd>
<dt>{{t("admin.copies")}}</dt><dd>
% for each in copies:
{{each.name}} ({{size_of(each.size_bytes)}})<br>
% end
% if not copies:
{{t("admin.none")}}
% end
</dd>
</dl>
<div class="moves">
% include("button.tpl", action="/console/admin/backups", label=t("admin.make_copy"), look="secondary")
% if replica:
%     include("button.tpl", action="/console/admin/drill", label=t("admin.do_drill"), look="secondary")
% end
</div>
</section>
<section>
<h2>{{t("admin.dead")}}</h2>
% if not dead:
<p>{{t("admin.no_dead")}}</p>
% end
<ul class="rows">
% for job in dead:
<li><div><strong>{{job.kind}}</strong> <small><time datetime="{{job.created_at}}">{{minute_of(job.created_at)}}</time>, {{job.last_error or ""}}</small></div>
%     include("button.tpl", action="/console/admin/jobs/" + job.id + "/retry", label=t("admin.retry"), what=job.kind)
</li>
% end
</ul>
</section>
<section>
<h2>{{t("admin.latest")}}</h2>
<ul class="rows">
% for entry in entries:
<li><div><code>{{entry.action}}</code> <small><time datetime="{{entry.at}}">{{minute_of(entry.at)}}</time></small></div></li>
% end
</ul>
</section>
