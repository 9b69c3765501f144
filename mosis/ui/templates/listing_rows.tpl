<ol class="queue">
% for row in listings:
<li>
% if row.app.status == "published":
<img src="{{url("/assets/" + row.app.id + "/icon-64.png")}}" alt="" width="48" height="48" loading="lazy">
% else:
<span class="no-icon"></span>
% end
<div>
<a href="{{url("/console/reviews/listings/" + row.change.id)}}" data-step><strong>{{row.app.name}}</strong> {{", ".join(t("listing_field." + each) for each in row.fields)}}</a>
<small>{{row.developer}}, <code>{{row.app.package_id}}</code></small>
<ul class="labels">
%     for code in row.because:
<li>{{page.words("because." + code, code)}}</li>
%     end
</ul>
</div>
<small class="when">
%     if row.change.decided_at:
{{t("review_state." + row.change.state)}} <time datetime="{{row.change.decided_at}}">{{minute_of(row.change.decided_at)}}</time>
%     else:
{{t("reviews.since")}} <time datetime="{{row.change.submitted_at}}">{{minute_of(row.change.submitted_at)}}</time>
%     end
</small>
</li>
% end
</ol>
