% rebase("layout.tpl", title=t("quality.title") + ": " + app.name)
% here = "/console/apps/" + app.package_id
<p class="links"><a href="{{url(here)}}">{{app.name}}</a></p>
<h1>{{t("quality.title")}}</h1>
<nav class="chips" aria-label="{{t("quality.span")}}">
<ul>
% for each in spans:
<li><a href="{{url(here + "/quality", days=each)}}" {{"aria-current=true" if spans[each] == days else ""}}>{{t("quality.days", count=each)}}</a></li>
% end
</ul>
</nav>
<dl class="figures">
<div><dt>{{t("quality.devices_all")}}</dt><dd>{{written(totals["unique_devices"])}}</dd></div>
<div><dt>{{t("quality.starts")}}</dt><dd>{{written(totals["starts"])}}</dd></div>
<div><dt>{{t("quality.crashes")}}</dt><dd>{{written(totals["crashes"])}}</dd></div>
<div><dt>{{t("quality.crash_free")}}</dt><dd>{{"\u2013" if totals["crash_free_share"] is None else written(totals["crash_free_share"] * 100) + " %"}}</dd></div>
</dl>
<div class="charts">
% for chart in charts:
%     include("chart.tpl", chart=chart)
% end
</div>
<section>
<h2>{{t("app.versions")}}</h2>
% if not versions:
<p>{{t("quality.nothing")}}</p>
% else:
<ul class="queue">
%     for each in versions:
<li><div>
%         if each["state"]:
<a href="{{url(here + "/versions/" + each["version"])}}"><strong>{{each["version"]}}</strong></a>
%         else:
<strong>{{t("quality.other_versions") if each["version"] == "other" else each["version"]}}</strong>
%         end
<p class="next">{{t("quality.of_version", devices=written(each["unique_devices"]), starts=written(each["starts"]), crashes=written(each["crashes"]))}}
% if each["crash_free_share"] is not None:
<br>{{t("quality.crash_free")}}: <strong>{{written(each["crash_free_share"] * 100)}} %</strong> <meter min="0" max="100" low="98" high="99.5" optimum="100" value="{{round(each["crash_free_share"] * 100, 2)}}" aria-label="{{t("quality.crash_free")}}"></meter>
% end
</p>
</div>
%         if each["state"]:
<ul class="labels"><li class="{{each["state"]}}">{{t("version_state." + each["state"])}}</li></ul>
%         end
%         if each["state"] == "published":
<form method="post" action="{{url(here + "/versions/" + each["version"] + "/halt")}}">
%             include("form_token.tpl")
<button class="danger small">{{t("move.halt")}}</button>
</form>
%         end
</li>
%     end
</ul>
% end
</section>
<section id="crashes">
<h2>{{t("quality.groups")}}</h2>
<nav class="chips" aria-label="{{t("quality.groups")}}">
<ul>
% for each in ("open", "resolved"):
<li><a href="{{url(here + "/quality", days=str(days), show=each)}}#crashes" {{"aria-current=true" if each == state else ""}}>{{t("quality.show_" + each)}}</a></li>
% end
</ul>
</nav>
% if not groups:
<p>{{t("quality.no_groups")}}</p>
% end
% for group in groups:
<article class="group">
<h3>{{group["type"]}}: {{group["message"]}}</h3>
<p><small>{{t("quality.group", count=group["count"], devices=group["devices"])}}, <time datetime="{{group["last_seen"]}}">{{minute_of(group["last_seen"])}}</time></small></p>
<p><small>{{", ".join("%s (%d)" % (each["version"], each["count"]) for each in group["versions"])}}</small></p>
%     if group["frames"]:
<pre tabindex="0">{{"\n".join(group["frames"])}}</pre>
%     end
<form method="post" action="{{url(here + "/crashes/" + group["id"])}}">
%     include("form_token.tpl")
%     if group["state"] == "open":
<button name="state" value="resolved" class="secondary small">{{t("quality.resolve")}}</button>
%     else:
<button name="state" value="open" class="secondary small">{{t("quality.reopen")}}</button>
%     end
</form>
</article>
% end
% if next_cursor:
<p><a href="{{url(here + "/quality", days=str(days), show=state, cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
% end
</section>
