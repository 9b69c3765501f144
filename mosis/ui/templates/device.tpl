% rebase("layout.tpl", title=t("device.title"), shape="narrow")
<h1>{{t("device.title")}}</h1>
<p>{{t("device.asks", client=login.client_name)}}</p>
<ul>
% for scope in scopes:
<li>{{t("scope." + scope)}} <small><code>{{scope}}</code></small></li>
% end
</ul>
<p>{{t("device.compare")}} <strong class="code">{{code}}</strong></p>
<form method="post" action="{{url("/console/device")}}" class="choice">
% include("form_token.tpl")
<input type="hidden" name="user_code" value="{{code}}">
% if second_factor:
% include("field.tpl", name="code", label=t("device.second_factor"), complete="one-time-code", most=40, optional=True, hint=t("field.code_hint"))
% end
<button name="decision" value="approve">{{t("device.approve")}}</button>
<button name="decision" value="deny" class="secondary">{{t("device.deny")}}</button>
</form>
<p><small>{{t("device.warning")}}</small></p>
