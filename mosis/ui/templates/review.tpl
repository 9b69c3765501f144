% page.script("keys.js")
% rebase("layout.tpl", title=row.app.name + " " + version.version, shape="full")
<p class="links"><a href="{{url("/console/reviews")}}">{{t("review.back")}}</a> <a href="#findings">{{t("review.findings")}}</a> <a href="#file">{{t("review.files")}}</a> <a href="#conversation">{{t("review.conversation")}}</a>
% if is_open:
<a href="#decision">{{t("review.decision")}}</a>
% end
</p>
<header class="app">
% if row.icon:
<img src="{{row.icon}}" alt="" width="64" height="64">
% end
<div>
<h1>{{row.app.name}} {{version.version}}</h1>
<p>{{row.developer}}, <code>{{row.app.package_id}}</code></p>
</div>
<div class="claim">
% if is_open:
<form method="post" action="{{url("/console/reviews/" + row.review.id + "/claim")}}">
%     include("form_token.tpl")
<button class="secondary">{{t("review.extend" if is_mine else "review.claim")}}</button>
</form>
%     if row.claimed_by and may_release:
<form method="post" action="{{url("/console/reviews/" + row.review.id + "/release")}}">
%         include("form_token.tpl")
<button class="quiet">{{t("review.release")}}</button>
</form>
%     end
% end
</div>
</header>
% if look_alike:
<p class="alert" role="note"><strong>{{t("listing_change.look_alike")}}</strong> <a href="{{url("/app/" + look_alike)}}">{{look_alike}}</a></p>
% end
<dl class="facts">
<dt>{{t("review.state")}}</dt><dd>{{t("review_state." + row.review.state)}}
% if row.claimed_by:
- {{t("reviews.claimed_by", name=row.claimed_by)}}
% end
</dd>
<dt>{{t("reviews.since")}}</dt><dd><time datetime="{{row.review.submitted_at}}">{{minute_of(row.review.submitted_at)}}</time></dd>
<dt>{{t("review.compared")}}</dt><dd>{{changes.since.version if changes.since else t("review.first")}}</dd>
<dt>{{t("review.channel")}}</dt><dd>{{version.channel}}</dd>
<dt>{{t("app.size")}}</dt><dd>{{size_of(changes.since.size_bytes) + " \u2192 " if changes.since else ""}}{{size_of(version.size_bytes)}}</dd>
<dt>SHA-256</dt><dd><code>{{version.sha256}}</code></dd>
% if row.because:
<dt>{{t("review.because")}}</dt><dd>
%     for code in row.because:
{{page.words("because." + code, code)}}.
%     end
</dd>
% end
</dl>
% if row.review.decided_at:
<section>
<h2>{{t("review.decision")}}</h2>
<p>{{t("review_state." + row.review.state)}}, <time datetime="{{row.review.decided_at}}">{{minute_of(row.review.decided_at)}}</time>
%     for reason in decided_reasons:
- {{t("reason." + reason)}}
%     end
</p>
%     if row.review.comment:
<blockquote class="notes">{{row.review.comment}}</blockquote>
%     end
</section>
% end
<div class="columns">
<section>
<h2>{{t("app.permissions")}}</h2>
% if permissions or changes.permissions_removed:
<ul class="plain">
%     for name in permissions:
<li>{{page.words("permission." + name, name)}} <code>{{name}}</code>
%         if name in changes.permissions_added:
<strong class="tag added">{{t("review.new")}}</strong>
%         end
</li>
%     end
%     for name in changes.permissions_removed:
<li><del>{{page.words("permission." + name, name)}}</del> <strong class="tag removed">{{t("review.dropped")}}</strong></li>
%     end
</ul>
% else:
<p>{{t("app.no_permissions")}}</p>
% end
</section>
<section>
<h2>{{t("review.notes")}}</h2>
<p class="notes">{{version.release_notes or t("review.no_notes")}}</p>
</section>
</div>
<section id="findings">
<h2>{{t("review.findings")}}</h2>
% if not findings:
<p>{{t("review.no_findings")}}</p>
% else:
<ul class="findings">
%     for finding in findings:
<li class="{{finding["severity"]}}"><strong>{{t("severity." + finding["severity"])}}</strong> <code>{{finding["code"]}}</code>
%         if finding["path"] and any(each.path == finding["path"] for each in [*tree, *same]):
<a href="{{address(finding["path"], finding["line"] or 0)}}">{{finding["path"]}}{{":" + str(finding["line"]) if finding["line"] else ""}}</a>
%         elif finding["path"]:
{{finding["path"]}}
%         end
<br>{{finding["detail"]}}</li>
%     end
</ul>
% end
</section>
<section class="desk">
<nav class="files" aria-label="{{t("review.files")}}">
<h2>{{t("review.files")}}</h2>
<ul>
% for each in tree:
<li><a href="{{address(each.path)}}" data-step class="{{each.state}}" {{"aria-current=true" if file and file["path"] == each.path else ""}}><span class="sign" aria-hidden="true">{{{"added": "+", "removed": "\u2212", "changed": "~"}[each.state]}}</span> {{each.path}} <small>{{t("file." + each.state)}}</small></a></li>
% end
</ul>
% if same:
<details {{"open" if file and file["state"] == "same" else ""}}>
<summary>{{t("review.same", count=len(same))}}</summary>
<ul>
%     for each in same:
<li><a href="{{address(each.path)}}" {{"aria-current=true" if file and file["path"] == each.path else ""}}>{{each.path}}</a></li>
%     end
</ul>
</details>
% end
</nav>
% if file:
<div class="file" id="file">
%     include("review_file.tpl")
</div>
% end
</section>
<section id="conversation">
<h2>{{t("review.conversation")}}</h2>
<ol class="events">
% for message, author in messages:
<li class="{{"internal" if message.internal else ""}}">
<p class="notes">{{message.text}}</p>
<small>{{t("review.by_" + message.sender, name=author)}}{{" - " + t("review.internal") if message.internal else ""}}, <time datetime="{{message.created_at}}">{{minute_of(message.created_at)}}</time></small>
</li>
% end
</ol>
<form method="post" action="{{url("/console/reviews/" + row.review.id + "/messages")}}">
% include("form_token.tpl")
% include("text_field.tpl", name="text", label=t("review.write"), form_id="message-")
<label><input type="checkbox" name="internal" value="yes" {{"checked" if page.typed("internal") else ""}}> {{t("review.internal_about")}}</label>
<button class="secondary">{{t("review.send")}}</button>
</form>
</section>
% if is_open:
<section id="decision">
<h2>{{t("review.decision")}}</h2>
<div class="columns">
<form method="post" action="{{url("/console/reviews/" + row.review.id + "/approve")}}" id="approve">
%     include("form_token.tpl")
%     include("text_field.tpl", name="comment", label=t("review.comment"), form_id="approve-", optional=True, hint=t("review.approve_hint"))
<label><input type="checkbox" name="security" value="yes" {{"checked" if page.form.get("security") else ""}}> {{t("review.security")}}</label>
<button data-key="a">{{t("review.approve")}}</button>
</form>
<form method="post" action="{{url("/console/reviews/" + row.review.id + "/reject")}}" id="reject">
%     include("form_token.tpl")
<fieldset>
<legend>{{t("review.reasons")}}</legend>
<div class="boxes">
%     for number, reason in enumerate(reasons):
<label><input type="checkbox" name="reasons" value="{{reason}}" {{"checked" if reason in page.form.all("reasons") else ""}} {{"" if number else "data-key=r"}}> {{t("reason." + reason)}}</label>
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
<p class="keys" data-keys hidden><label><input type="checkbox"> {{t("review.keys")}}</label></p>
