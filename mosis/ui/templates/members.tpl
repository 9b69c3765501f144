% rebase("layout.tpl", title=t("members.title"))
% app_here = "/console/apps/" + app.package_id
% here = app_here + "/members"
% is_owner = role == "owner"
<p class="links"><a href="{{url(app_here)}}">{{app.name}}</a></p>
<h1>{{t("members.of", name=app.name)}}</h1>
<ul class="rows">
% for member in members:
%     is_me = member.developer_id == page.caller.account
<li><div><strong>{{member.name}}</strong> {{member.email}}
<small>{{t("member_role." + member.role)}}{{", " + t("members.you") if is_me else ""}}{{", " + t("members.belongs") if member.developer_id == app.developer_id else ""}}{{", " + t("admin.is_suspended") if member.suspended else ""}}</small></div>
%     if is_owner:
<form method="post" action="{{url(here + "/" + member.developer_id + "/role")}}" class="inline-form">
%         include("form_token.tpl")
<label class="hidden" for="role-{{member.developer_id}}">{{t("admin.role_of", name=member.name)}}</label>
<select id="role-{{member.developer_id}}" name="role">
%         for each in roles:
<option value="{{each}}" {{"selected" if each == member.role else ""}}>{{t("member_role." + each)}}</option>
%         end
</select>
<button class="quiet">{{t("admin.set_role")}}<span class="hidden"> {{member.name}}</span></button>
</form>
%     end
%     if is_me or is_owner:
%         include("button.tpl", action=here + "/" + member.developer_id + "/remove", label=t("members.leave" if is_me else "members.remove"), what=member.name)
%     end
</li>
% end
</ul>
<p><small>{{t("members.roles")}}</small></p>
% if is_owner:
<section id="invite">
<h2>{{t("members.invite")}}</h2>
%     if invitations:
<ul class="rows">
%         for invitation in invitations:
<li><div>{{invitation.email}} <small>{{t("members.transfer_open" if invitation.transfer else "member_role." + invitation.role)}}, {{t("members.until")}} <time datetime="{{invitation.expires_at}}">{{minute_of(invitation.expires_at)}}</time></small></div>
%             include("button.tpl", action=app_here + "/invitations/" + invitation.id + "/cancel", label=t("members.cancel"), what=invitation.email)
</li>
%         end
</ul>
%     end
<form method="post" action="{{url(here)}}">
%     include("form_token.tpl")
%     include("field.tpl", name="email", label=t("field.email"), kind="email", most=254, hint=t("members.invite_hint"))
<label for="field-role">{{t("members.role")}}</label>
<select id="field-role" name="role">
%     for each in roles:
<option value="{{each}}" {{"selected" if each == (page.typed("role") or "publisher") else ""}}>{{t("member_role." + each)}}</option>
%     end
</select>
<button>{{t("members.send")}}</button>
</form>
</section>
<section id="transfer">
<h2>{{t("members.transfer")}}</h2>
<p>{{t("members.transfer_about")}}</p>
<form method="post" action="{{url(app_here + "/transfer")}}">
%     include("form_token.tpl")
%     include("field.tpl", name="to", label=t("members.transfer_to"), kind="email", most=254)
<button class="danger">{{t("members.offer")}}</button>
</form>
</section>
% end
