% rebase("layout.tpl", title=t("account.title"))
% here = "/console/account"
<h1>{{t("account.title")}}</h1>
<p>{{account.email}} - {{t("role." + account.role)}}{{"".join(", " + page.provider_name(name) for name in providers)}}</p>
<p class="links"><a href="#sessions">{{t("account.sessions")}}</a> <a href="#keys">{{t("account.keys")}}</a> <a href="#signing-keys">{{t("account.signing_keys")}}</a> <a href="#webhooks">{{t("account.webhooks")}}</a> <a href="#mail">{{t("account.mail")}}</a> <a href="#data">{{t("account.data")}}</a></p>
<div class="columns">
<section>
<h2>{{t("field.name")}}</h2>
<form method="post" action="{{url(here)}}">
% include("form_token.tpl")
<label for="account-name">{{t("field.name")}}</label>
<input id="account-name" name="name" value="{{account.name}}" maxlength="100" required autocomplete="name">
<button class="secondary">{{t("account.save")}}</button>
</form>
</section>
% if account.password_hash:
<section>
<h2>{{t("field.password")}}</h2>
<form method="post" action="{{url(here + "/password")}}">
%     include("form_token.tpl")
%     include("field.tpl", name="current_password", label=t("account.current_password"), kind="password", complete="current-password")
%     include("field.tpl", name="new_password", label=t("field.new_password"), kind="password", complete="new-password", hint=t("field.password_hint"))
<button class="secondary">{{t("reset.do")}}</button>
</form>
</section>
% end
</div>
<p><a href="{{url("/console/second-factor")}}">{{t("navigation.second_factor")}}</a></p>
<section id="sessions">
<h2>{{t("account.sessions")}}</h2>
<ul class="rows">
% for session in sessions:
<li><div><strong>{{session.client or t("account.unknown_client")}}</strong>
<small>{{session.address}}, {{t("account.last_used")}} <time datetime="{{session.last_used_at}}">{{minute_of(session.last_used_at)}}</time></small></div>
%     if session.id == current:
<span class="tag added">{{t("account.this_browser")}}</span>
%     else:
%         include("button.tpl", action=here + "/sessions/" + session.id + "/end", label=t("account.end"), what=session.client)
%     end
</li>
% end
</ul>
</section>
<section id="keys">
<h2>{{t("account.keys")}}</h2>
<ul class="rows">
% for key, key_scopes in keys:
<li><div><strong>{{key.name}}</strong> <code>{{key.prefix}}…</code>
<small>{{", ".join(key_scopes)}}{{" - " + t("account.last_used") if key.last_used_at else ""}}
%     if key.last_used_at:
<time datetime="{{key.last_used_at}}">{{minute_of(key.last_used_at)}}</time>
%     end
</small></div>
%     include("button.tpl", action=here + "/keys/" + key.id + "/revoke", label=t("account.revoke"), what=key.name)
</li>
% end
</ul>
<details {{"open" if page.is_here(here + "/keys") else ""}}>
<summary role="button" class="secondary">{{t("account.add_key")}}</summary>
<form method="post" action="{{url(here + "/keys")}}">
% include("form_token.tpl")
<label for="key-name">{{t("account.key_name")}}</label>
<input id="key-name" name="name" maxlength="100" required value="{{page.typed("name")}}" autocomplete="off">
<fieldset>
<legend>{{t("account.scopes")}}</legend>
% for scope in scopes:
<label><input type="checkbox" name="scopes" value="{{scope}}" {{"checked" if scope in page.form.all("scopes") else ""}}> {{t("scope." + scope)}} <small><code>{{scope}}</code></small></label>
% end
% if page.error_of("scopes"):
<small class="wrong">{{page.error_of("scopes")}}</small>
% end
</fieldset>
% if apps:
<fieldset>
<legend>{{t("account.key_apps")}}</legend>
%     for app in apps:
<label><input type="checkbox" name="apps" value="{{app.package_id}}"> {{app.name}} <small><code>{{app.package_id}}</code></small></label>
%     end
</fieldset>
% end
<button>{{t("account.add_key")}}</button>
</form>
</details>
</section>
<section id="signing-keys">
<h2>{{t("account.signing_keys")}}</h2>
<ul class="rows">
% for key in signing_keys:
<li><div><strong>{{key.name}}</strong> {{t("account.revoked") if key.state == "revoked" else ""}}
<small><code>{{key.fingerprint}}</code></small></div>
%     if key.state == "active":
%         include("button.tpl", action=here + "/signing-keys/" + key.id + "/revoke", label=t("account.revoke"), what=key.name)
%     end
</li>
% end
</ul>
<details {{"open" if page.is_here(here + "/signing-keys") else ""}}>
<summary role="button" class="secondary">{{t("account.add_signing_key")}}</summary>
<form method="post" action="{{url(here + "/signing-keys")}}">
% include("form_token.tpl")
<label for="signing-name">{{t("account.key_name")}}</label>
<input id="signing-name" name="name" maxlength="100" required value="{{page.typed("name")}}" autocomplete="off">
% include("text_field.tpl", name="public_key", label=t("account.public_key"), most=2000, rows=4, hint=t("account.public_key_hint"))
<button>{{t("account.add_signing_key")}}</button>
</form>
</details>
</section>
<section id="webhooks">
<h2>{{t("account.webhooks")}}</h2>
<ul class="rows">
% for webhook in webhooks:
<li><div><a href="{{url(here + "/webhooks/" + webhook.id)}}">{{webhook.url}}</a>
<small>{{t("account.on" if webhook.enabled else "account.off")}}{{", " + t("account.fails") if webhook.failing_since else ""}}</small></div></li>
% end
</ul>
<details {{"open" if page.is_here(here + "/webhooks") else ""}}>
<summary role="button" class="secondary">{{t("account.add_webhook")}}</summary>
<form method="post" action="{{url(here + "/webhooks")}}">
% include("form_token.tpl")
% include("field.tpl", name="url", label=t("account.url"), kind="url", most=2000, hint=t("account.url_hint"))
<fieldset>
<legend>{{t("account.kinds")}}</legend>
<div class="boxes">
% for kind in kinds:
<label><input type="checkbox" name="kinds" value="{{kind}}"> <code>{{kind}}</code></label>
% end
</div>
</fieldset>
<button>{{t("account.add_webhook")}}</button>
</form>
</details>
</section>
<section id="mail">
<h2>{{t("account.mail")}}</h2>
<form method="post" action="{{url(here + "/mail")}}">
% include("form_token.tpl")
<fieldset>
<legend>{{t("account.mail_about")}}</legend>
<div class="boxes">
% for kind in kinds:
<label><input type="checkbox" name="kinds" value="{{kind}}" {{"checked" if mail[kind] else ""}}> {{t("mail_kind." + kind)}}</label>
% end
</div>
</fieldset>
<button class="secondary">{{t("account.save")}}</button>
</form>
</section>
<section id="data">
<h2>{{t("account.data")}}</h2>
<p><a href="{{url(here + "/export")}}" download="account.json">{{t("account.export")}}</a></p>
<details {{"open" if page.is_here(here + "/erase") else ""}}>
<summary role="button" class="secondary">{{t("account.erase")}}</summary>
<form method="post" action="{{url(here + "/erase")}}">
% include("form_token.tpl")
<p>{{t("account.erase_about")}}</p>
% if account.password_hash:
%     include("field.tpl", name="password", label=t("field.password"), kind="password", complete="current-password")
% end
<label><input type="checkbox" name="withdraw" value="yes"> {{t("account.withdraw")}}</label>
<label><input type="checkbox" name="sure" value="yes" required> {{t("account.sure")}}</label>
<button class="danger">{{t("account.erase")}}</button>
</form>
</details>
</section>
