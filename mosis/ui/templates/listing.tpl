% rebase("layout.tpl", title=t("listing_change.title", name=row.app.name))
% here = "/console/reviews/listings/" + row.change.id
<p class="links"><a href="{{url("/console/reviews")}}">{{t("reviews.title")}}</a></p>
<h1>{{t("listing_change.title", name=row.app.name)}}</h1>
<p>{{row.developer}}, <code>{{row.app.package_id}}</code> - {{t("state." + row.app.status)}}, {{t("reviews.since")}} <time datetime="{{row.change.submitted_at}}">{{minute_of(row.change.submitted_at)}}</time></p>
<ul class="labels">
% for code in row.because:
<li>{{page.words("because." + code, code)}}</li>
% end
</ul>
% if look_alike:
<p class="alert" role="note"><strong>{{t("listing_change.look_alike")}}</strong> <a href="{{url("/app/" + look_alike)}}">{{look_alike}}</a></p>
% end
<section>
<h2>{{t("listing_change.changes")}}</h2>
% include("listing_diff.tpl")
</section>
% if not is_open:
<section>
<h2>{{t("review.decision")}}</h2>
<p><strong>{{t("review_state." + row.change.state)}}</strong> <time datetime="{{row.change.decided_at}}">{{minute_of(row.change.decided_at)}}</time>
{{", ".join(t("reason." + reason) for reason in decided_reasons)}}</p>
%     if row.change.comment:
<blockquote class="notes">{{row.change.comment}}</blockquote>
%     end
</section>
% else:
<section id="decision">
<h2>{{t("review.decision")}}</h2>
<div class="columns">
<form method="post" action="{{url(here + "/approve")}}" id="approve">
%     include("form_token.tpl")
<input type="hidden" name="revision" value="{{row.change.revision}}">
%     include("text_field.tpl", name="comment", label=t("review.comment"), form_id="approve-", optional=True, hint=t("review.approve_hint"))
<button>{{t("review.approve")}}</button>
</form>
<form method="post" action="{{url(here + "/reject")}}" id="reject">
%     include("form_token.tpl")
<input type="hidden" name="revision" value="{{row.change.revision}}">
<fieldset>
<legend>{{t("review.reasons")}}</legend>
<div class="boxes">
%     for reason in reasons:
<label><input type="checkbox" name="reasons" value="{{reason}}" {{"checked" if reason in page.form.all("reasons") else ""}}> {{t("reason." + reason)}}</label>
%     end
</div>
%     if page.error_of("reasons"):
<small class="wrong">{{page.error_of("reasons")}}</small>
%     end
</fieldset>
%     include("text_field.tpl", name="comment", label=t("review.comment"), form_id="reject-", hint=t("review.reject_hint"))
<button class="danger">{{t("review.reject")}}</button>
</form>
</div>
</section>
% end
