% page.script("live.js")
% rebase("layout.tpl", title=app.name + " " + version.version, head="refresh_head.tpl" if version.state == "checking" else None)
% app_here = "/console/apps/" + app.package_id
% here = app_here + "/versions/" + version.version
<p class="links"><a href="{{url(app_here)}}">{{app.name}}</a> <a href="{{url(app_here + "/quality")}}">{{t("quality.title")}}</a></p>
<h1>{{app.name}} {{version.version}}</h1>
<div id="live-version" data-live>
<p class="notice state {{version.state}}" role="status"><strong>{{t("version_state." + version.state)}}</strong><br>{{next_step}}</p>
% if version.state == "checking":
<progress aria-label="{{t("version_state.checking")}}"></progress>
% end
% if review and review.comment:
<blockquote class="notes">{{review.comment}}
%     if reasons:
<footer>{{", ".join(t("reason." + reason) for reason in reasons)}}</footer>
%     end
</blockquote>
% end
<div class="moves">
% for move in moves:
%     if move in ("publish", "rollout", "yank", "rollback"):
<details {{"open" if page.problem and page.is_here(here + "/" + move) else ""}}>
<summary role="button" class="{{"" if move == "publish" else "secondary"}}">{{t("move." + move)}}</summary>
<form method="post" action="{{url(here + "/" + move)}}">
%         include("form_token.tpl")
%         if move == "publish":
%             include("field.tpl", name="rollout_percent", label=t("move.percent"), most=5, optional=True, hint=t("move.percent_hint"), mode="decimal")
%             if version.state == "approved":
%                 include("field.tpl", name="publish_at", kind="datetime-local", label=t("move.at"), most=16, optional=True, hint=t("move.at_hint"))
%             end
%         elif move == "rollout":
%             include("field.tpl", name="percent", label=t("move.percent"), most=5, hint=t("move.now_percent", percent="%g" % version.rollout_percent), mode="decimal")
%         else:
<p>{{t("move.about_" + move)}}</p>
%             include("field.tpl", name="reason", label=t("move.reason"), most=500)
%         end
<button class="{{"danger" if move in ("yank", "rollback") else ""}}">{{t("move." + move)}}</button>
</form>
</details>
%     else:
<form method="post" action="{{url(here + "/" + move)}}">
%         include("form_token.tpl")
%         if move == "submit":
<label><input type="checkbox" name="publish" value="yes"> {{t("upload.publish")}}</label>
%         end
<button class="{{"" if move in ("submit", "unyank") else "danger"}}">{{t("move." + move)}}</button>
</form>
%     end
% end
</div>
<section id="findings">
<h2>{{t("review.findings")}}</h2>
% if version.state == "checking":
<p>{{t("version_state.checking")}}</p>
% elif not findings:
<p>{{t("review.no_findings")}}</p>
% else:
<ul class="findings">
%     for finding in findings:
<li class="{{finding["severity"]}}"><strong>{{t("severity." + finding["severity"])}}</strong> <code>{{finding["code"]}}</code>
%         if finding["path"]:
<span class="place">{{finding["path"]}}{{":" + str(finding["line"]) if finding["line"] else ""}}</span>
%         end
<br>{{finding["detail"]}}</li>
%     end
</ul>
% end
</section>
</div>
<dl class="facts">
<dt>{{t("review.channel")}}</dt><dd>{{version.channel}}</dd>
% if version.released:
<dt>{{t("move.share")}}</dt><dd>{{"%g" % version.rollout_percent}} %</dd>
% end
% if plan:
<dt>{{t("plan.title")}}</dt><dd>{{", ".join(t("plan.step", percent="%g" % step["percent"], hours="%g" % step["after_hours"]) for step in plan["steps"])}}. {{t("plan.state." + plan["state"])}}</dd>
%     if plan["halt_when"]:
<dt>{{t("plan.halts")}}</dt><dd>{{t("plan.below", share="%g" % (100 * plan["halt_when"]["crash_free_below"]), sessions=plan["halt_when"]["sessions_at_least"])}}</dd>
%     end
%     if plan["halted"]:
%         halted, before = plan["halted"], plan["halted"]["previous"]
<dt>{{t("plan.halted")}}</dt><dd><time datetime="{{halted["at"]}}">{{minute_of(halted["at"])}}</time>: {{t("plan.figures", crashes=halted["crashes"], sessions=halted["sessions"], devices=halted["devices"], share="%.2f" % (100 * halted["crash_free_share"]))}}
%         if before and before["crash_free_share"] is not None:
{{t("plan.before", version=before["version"], share="%.2f" % (100 * before["crash_free_share"]))}}
%         end
</dd>
%     end
% end
<dt>{{t("app.size")}}</dt><dd>{{size_of(version.size_bytes)}}</dd>
<dt>SHA-256</dt><dd><code>{{version.sha256}}</code></dd>
<dt>{{t("app.permissions")}}</dt><dd>{{", ".join(page.words("permission." + name, name) for name in permissions) or t("app.no_permissions")}}</dd>
<dt>{{t("upload.uploaded")}}</dt><dd><time datetime="{{version.created_at}}">{{minute_of(version.created_at)}}</time></dd>
% if version.published_at:
<dt>{{t("app.published")}}</dt><dd><time datetime="{{version.published_at}}">{{minute_of(version.published_at)}}</time></dd>
% end
</dl>
% if may_plan:
<details id="plan" {{"open" if page.problem and page.is_here(here + "/rollout-plan") else ""}}>
<summary role="button" class="secondary">{{t("plan.edit" if plan else "plan.set")}}</summary>
%     include("plan_form.tpl", action=here + "/rollout-plan", values=plan_values)
</details>
% end
% if version.release_notes:
<section>
<h2>{{t("review.notes")}}</h2>
<p class="notes">{{version.release_notes}}</p>
</section>
% end
% if messages or submits:
<section id="conversation">
<h2>{{t("version.conversation")}}</h2>
<ol class="events">
%     for message in messages:
<li>
<p class="notes">{{message.text}}</p>
<small>{{t("version.from_" + message.sender)}}, <time datetime="{{message.created_at}}">{{minute_of(message.created_at)}}</time></small>
</li>
%     end
</ol>
<form method="post" action="{{url(here + "/messages")}}">
%     include("form_token.tpl")
%     include("text_field.tpl", name="text", label=t("review.write"))
<button class="secondary">{{t("review.send")}}</button>
</form>
</section>
% end
