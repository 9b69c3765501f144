% rebase("layout.tpl", title=t("publishers.title"))
% app_here = "/console/apps/" + app.package_id
% here = app_here + "/trusted-publishers"
<p class="links"><a href="{{url(app_here)}}">{{app.name}}</a> <a href="{{url("/docs/COOKBOOK")}}">{{t("publishers.workflows")}}</a></p>
<h1>{{t("publishers.of", name=app.name)}}</h1>
<p>{{t("publishers.about")}}</p>
<ul class="rows">
% for publisher, claims, scopes_of in publishers:
<li><div><strong>{{publisher.issuer}}</strong>
<small>{{", ".join("%s=%s" % each for each in sorted(claims.items()))}}</small>
<small>{{", ".join(scopes_of)}}; {{t("publishers.used") if publisher.last_used_at else t("publishers.unused")}}
%     if publisher.last_used_at:
<time datetime="{{publisher.last_used_at}}">{{minute_of(publisher.last_used_at)}}</time>
%     end
</small></div>
%     if is_owner:
%         include("button.tpl", action=here + "/" + publisher.id + "/remove", label=t("members.remove"), what=publisher.issuer)
%     end
</li>
% end
</ul>
% if not publishers:
<p>{{t("publishers.none")}}</p>
% end
% if is_owner:
<section id="add">
<h2>{{t("publishers.add")}}</h2>
<details>
<summary>{{t("publishers.examples")}}</summary>
<dl class="facts">
%     for name, issuer, claims in examples:
<dt>{{name}}</dt><dd><code>{{issuer}}</code><br>
%         for claim in claims.split("\n"):
<code>{{claim}}</code><br>
%         end
</dd>
%     end
<dt>{{t("publishers.audience")}}</dt><dd><code>{{audience}}</code></dd>
</dl>
</details>
<form method="post" action="{{url(here)}}">
%     include("form_token.tpl")
%     include("field.tpl", name="issuer", label=t("publishers.issuer"), kind="url", most=500, hint=t("publishers.issuer_hint"))
%     include("text_field.tpl", name="claims", label=t("publishers.claims"), rows=4, most=5000, hint=t("publishers.claims_hint"))
<fieldset>
<legend>{{t("account.scopes")}}</legend>
%     for scope in scopes:
<label><input type="checkbox" name="scopes" value="{{scope}}" {{"checked" if scope in chosen else ""}}> {{t("scope." + scope)}}</label>
%     end
%     if page.error_of("scopes"):
<small class="wrong">{{page.error_of("scopes")}}</small>
%     end
</fieldset>
<button>{{t("publishers.add")}}</button>
</form>
</section>
<section id="only">
<h2>{{t("publishers.only")}}</h2>
<p>{{t("publishers.now_" + app.publish_by)}}</p>
<form method="post" action="{{url(here + "/only")}}">
%     include("form_token.tpl")
<input type="hidden" name="publish_by" value="{{"anyone" if app.publish_by == "trusted" else "trusted"}}">
<button class="secondary">{{t("publishers.allow_anyone" if app.publish_by == "trusted" else "publishers.allow_trusted")}}</button>
</form>
</section>
% end
