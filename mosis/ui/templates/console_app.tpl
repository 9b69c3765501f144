% if role != "viewer":
%     page.script("upload.js")
% end
% page.script("live.js")
% rebase("layout.tpl", title=app.name)
% here = "/console/apps/" + app.package_id
<header class="app">
% if app.status == "published":
<img src="{{url("/assets/" + app.id + "/icon-64.png")}}" alt="" width="64" height="64">
% end
<div>
<h1>{{app.name}}</h1>
<p><code>{{app.package_id}}</code> - {{t("state." + app.status)}}</p>
</div>
</header>
<p class="links"><a href="{{url(here + "/quality")}}">{{t("quality.title")}}</a>
<a href="{{url(here + "/members")}}">{{t("members.title")}}</a>
<a href="{{url(here + "/trusted-publishers")}}">{{t("publishers.title")}}</a>
% if app.status == "published":
<a href="{{url("/app/" + app.package_id)}}">{{t("overview.in_store")}}</a>
% end
</p>
% if role != "viewer":
<section>
<h2>{{t("upload.title")}}</h2>
<form method="post" action="{{url(here + "/versions")}}" enctype="multipart/form-data" data-upload>
% include("form_token.tpl")
<label for="field-package">{{t("upload.package")}}</label>
<input id="field-package" type="file" name="package" accept=".mosis,.zip" required aria-describedby="hint-package">
<small id="hint-package">{{t("upload.hint")}}</small>
<details>
<summary>{{t("upload.more")}}</summary>
<label for="field-notes">{{t("review.notes")}}</label>
<textarea id="field-notes" name="release_notes" rows="3" maxlength="5000"></textarea>
<label><input type="checkbox" name="submit" value="true"> {{t("upload.submit")}}</label>
<label><input type="checkbox" name="publish" value="true"> {{t("upload.publish")}}</label>
</details>
<button>{{t("upload.do")}}</button>
<div data-progress hidden aria-live="polite"><progress max="100" value="0" aria-label="{{t("upload.progress")}}"></progress> <span></span></div>
</form>
</section>
% end
<section>
<h2>{{t("app.versions")}}</h2>
<div id="live-versions" data-live>
% if not versions:
<p>{{t("overview.no_version")}}</p>
% end
<ul class="queue">
% for version, next_step in versions:
<li>
<div>
<a href="{{url(here + "/versions/" + version.version)}}"><strong>{{version.version}}</strong></a>
<small>{{size_of(version.size_bytes)}}, <time datetime="{{version.created_at}}">{{minute_of(version.created_at)}}</time></small>
<p class="next">{{next_step}}</p>
</div>
<ul class="labels"><li class="{{version.state}}">{{t("version_state." + version.state)}}</li>
%     if version.channel == "beta":
<li>{{t("app.beta")}}</li>
%     end
</ul>
</li>
% end
</ul>
</div>
% if next_cursor:
<p><a href="{{url(here, cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
% end
</section>
<section>
<h2>{{t("listing.title")}}</h2>
% if pending:
<div class="notice" role="status">
<p><strong>{{t("listing.waits")}}</strong> {{t("listing.waits_about")}}</p>
%     include("listing_diff.tpl")
%     if role == "owner":
<form method="post" action="{{url(here + "/listing/withdraw")}}">
%         include("form_token.tpl")
<input type="hidden" name="revision" value="{{pending.revision}}">
<button class="quiet">{{t("listing.withdraw")}}</button>
</form>
%     end
</div>
% elif rejected:
<div class="alert" role="note">
<p><strong>{{t("listing.rejected")}}</strong></p>
<blockquote class="notes">{{rejected.comment}}</blockquote>
</div>
% end
% if role == "owner":
<form method="post" action="{{url(here + "/listing")}}">
% include("form_token.tpl")
% include("field.tpl", name="name", label=t("field.app_name"), most=50, value=page.typed("name") or listing["name"] or "")
% include("field.tpl", name="summary", label=t("listing.summary"), most=200, optional=True, value=page.typed("summary") or listing["summary"] or "")
% include("text_field.tpl", name="description", label=t("app.description"), most=10000, rows=6, optional=True, value=page.typed("description") or listing["description"] or "")
% include("field.tpl", name="category", label=t("listing.category"), most=40, optional=True, value=page.typed("category") or listing["category"] or "", hint=t("listing.category_hint"))
% include("field.tpl", name="tags", label=t("app.tags"), most=500, optional=True, value=page.typed("tags") or listing["tags"], hint=t("listing.tags_hint"))
% include("field.tpl", name="homepage", label=t("app.homepage"), most=500, optional=True, value=page.typed("homepage") or listing["homepage"] or "")
<button class="secondary">{{t("listing.do")}}</button>
</form>
% end
</section>
% if role == "owner":
<section id="plan">
<h2>{{t("plan.default")}}</h2>
<p>{{t("plan.default_about") if plan["steps"] else t("plan.default_none")}}</p>
%     if plan["steps"]:
<p>{{", ".join(t("plan.step", percent=line.split()[0], hours=line.split()[1]) for line in plan["steps"].split("\n"))}}</p>
%     end
<details {{"open" if page.problem and page.is_here(here + "/rollout-plan") else ""}}>
<summary role="button" class="secondary">{{t("plan.edit" if plan["steps"] else "plan.set")}}</summary>
%     include("plan_form.tpl", action=here + "/rollout-plan", values=plan)
</details>
</section>
% end
