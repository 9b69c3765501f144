% rebase("layout.tpl", title=t("second_factor.title"), shape="narrow")
<h1>{{t("second_factor.title")}}</h1>
% if factor and factor.confirmed_at:
<p>{{t("second_factor.on", left=factor.codes_left)}}</p>
<h2>{{t("second_factor.renew")}}</h2>
<form method="post" action="{{url("/console/second-factor/codes")}}">
% include("form_token.tpl")
% include("field.tpl", name="code", label=t("field.code"), complete="one-time-code", most=40, hint=t("field.code_hint"))
<button class="secondary">{{t("second_factor.renew")}}</button>
</form>
<h2>{{t("second_factor.turn_off")}}</h2>
<form method="post" action="{{url("/console/second-factor/off")}}">
% include("form_token.tpl")
<label for="off-code">{{t("field.code")}}</label>
<input id="off-code" name="code" type="text" autocomplete="one-time-code" maxlength="40" required>
<button class="secondary">{{t("second_factor.turn_off")}}</button>
</form>
% elif secret:
<p>{{t("second_factor.scan")}}</p>
<p><img src="{{url("/console/second-factor/code.svg")}}" alt="{{t("second_factor.picture")}}" width="250" height="250"></p>
<p>{{t("second_factor.type")}} <code>{{secret}}</code></p>
<form method="post" action="{{url("/console/second-factor/confirm")}}">
% include("form_token.tpl")
% include("field.tpl", name="code", label=t("field.code"), complete="one-time-code", most=40, hint=t("second_factor.code_hint"))
<button>{{t("second_factor.turn_on")}}</button>
</form>
% else:
<p>{{t("second_factor.about")}}</p>
<form method="post" action="{{url("/console/second-factor")}}">
% include("form_token.tpl")
% if has_password:
%     include("field.tpl", name="password", label=t("field.password"), kind="password", complete="current-password")
% end
<button>{{t("second_factor.begin")}}</button>
</form>
% end
