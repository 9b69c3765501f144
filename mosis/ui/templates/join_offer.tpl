% rebase("layout.tpl", title=t("join.title"), shape="narrow")
<h1>{{t("join.title")}}</h1>
<p>{{t("join.transfer" if invitation.transfer else "join.invites", inviter=inviter, name=app.name, role=t("member_role." + invitation.role))}}</p>
<dl class="facts">
<dt>{{t("app.package_id")}}</dt><dd><code>{{app.package_id}}</code></dd>
<dt>{{t("join.until")}}</dt><dd><time datetime="{{invitation.expires_at}}">{{minute_of(invitation.expires_at)}}</time></dd>
</dl>
% if invitation.transfer:
<p>{{t("join.transfer_about")}}</p>
% end
<form method="post" action="{{url("/console/join")}}">
% include("form_token.tpl")
<input type="hidden" name="token" value="{{token}}">
<input type="hidden" name="accept" value="yes">
<button>{{t("join.do")}}</button>
</form>
<p class="links"><a href="{{url("/console/")}}">{{t("join.not_now")}}</a></p>
