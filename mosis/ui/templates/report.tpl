% rebase("layout.tpl", title=t("reports.of", name=app.name))
% here = "/console/reports/" + app.package_id
<p class="links"><a href="{{url("/console/reports")}}">{{t("reports.title")}}</a>
% if app.status == "published":
<a href="{{url("/app/" + app.package_id)}}">{{t("overview.in_store")}}</a>
% end
</p>
<h1>{{t("reports.of", name=app.name)}}</h1>
<p><code>{{app.package_id}}</code> - {{t("state." + app.status)}}</p>
<nav class="chips" aria-label="{{t("reports.states")}}">
<ul>
% for each in states:
<li><a href="{{url(here, state=each)}}" {{"aria-current=page" if each == state else ""}}>{{t("reports.state_" + each)}}</a></li>
% end
</ul>
</nav>
% if not reports:
<p>{{t("reports.none_here")}}</p>
% end
<ol class="events">
% for report in reports:
<li>
<p><strong>{{t("report_reason." + report.reason)}}</strong>
% if report.outcome:
({{t("report_outcome." + report.outcome)}})
% end
</p>
<p class="notes">{{report.text}}</p>
<small>{{t("reports.by_verified") if report.verified else t("reports.by_anybody")}}{{", " + report.email if report.email else ""}}, <time datetime="{{report.created_at}}">{{minute_of(report.created_at)}}</time></small>
</li>
% end
</ol>
% if next_cursor:
<p><a href="{{url(here, state=state, cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
% end
% if newest and state == "open":
<section id="decision">
<h2>{{t("review.decision")}}</h2>
<p>{{t("reports.decide")}}</p>
<form method="post" action="{{url(here + "/close")}}">
% include("form_token.tpl")
<input type="hidden" name="newest" value="{{newest}}">
% include("text_field.tpl", name="comment", label=t("reports.comment"), most=500, hint=t("reports.comment_hint"))
<div class="moves">
<button name="outcome" value="dismissed" class="secondary">{{t("reports.dismiss")}}</button>
<button name="outcome" value="suspended" class="danger">{{t("reports.suspend")}}</button>
</div>
</form>
</section>
% end
