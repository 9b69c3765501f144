% if rows:
%     page.script("keys.js")
% end
% rebase("layout.tpl", title=t("reviews.title"))
<h1>{{t("reviews.title")}}</h1>
<nav class="chips" aria-label="{{t("reviews.states")}}">
<ul>
% for each in states:
<li><a href="{{url("/console/reviews", state=each)}}" {{"aria-current=page" if each == state else ""}}>{{t("reviews.state_" + each)}}</a></li>
% end
</ul>
</nav>
% if listings:
<section>
<h2>{{t("listings.title")}}</h2>
%     include("listing_rows.tpl")
%     if more_listings:
<p><a href="{{url("/console/reviews/listings", state=state)}}">{{t("layout.more")}}</a></p>
%     end
</section>
<h2>{{t("listings.versions")}}</h2>
% end
% if not rows:
<p>{{t("reviews.none_" + state)}}</p>
% else:
<ol class="queue">
%     for row in rows:
<li>
%         if row.icon:
<img src="{{row.icon}}" alt="" width="48" height="48" loading="lazy">
%         else:
<span class="no-icon"></span>
%         end
<div>
<a href="{{url("/console/reviews/" + row.review.id)}}" data-step><strong>{{row.app.name}}</strong> {{row.version.version}}</a>
<small>{{row.developer}}, <code>{{row.app.package_id}}</code></small>
<ul class="labels">
%         for code in row.because:
<li>{{page.words("because." + code, code)}}</li>
%         end
%         for severity, count in row.severities:
<li class="{{severity}}">{{t("severity.count_" + severity, count=count)}}</li>
%         end
</ul>
</div>
<small class="when">
%         if row.review.decided_at:
{{t("review_state." + row.review.state)}} <time datetime="{{row.review.decided_at}}">{{minute_of(row.review.decided_at)}}</time>
%         else:
{{t("reviews.since")}} <time datetime="{{row.review.submitted_at}}">{{minute_of(row.review.submitted_at)}}</time>
%         end
%         if row.claimed_by:
<br>{{t("reviews.claimed_by", name=row.claimed_by)}}
%         end
</small>
</li>
%     end
</ol>
%     if next_cursor:
<p><a href="{{url("/console/reviews", state=state, cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
%     end
<p class="keys" data-keys hidden><label><input type="checkbox"> {{t("reviews.keys")}}</label></p>
% end
