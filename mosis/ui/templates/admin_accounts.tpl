% rebase("layout.tpl", title=t("admin.accounts"))
<h1>{{t("admin.accounts")}}</h1>
% include("admin_links.tpl", place="/accounts")
% include("admin_search.tpl", action="/console/admin/accounts")
<ul class="rows">
% for account in accounts:
<li><div><strong>{{account.name}}</strong> {{account.email}}
<small>{{t("role." + account.role)}}{{", " + t("admin.is_suspended") if account.suspended else ""}}{{"" if account.email_verified else ", " + t("admin.unverified")}}, <time datetime="{{account.created_at}}">{{day_of(account.created_at)}}</time></small></div>
%     if account.id != page.caller.developer_id:
<form method="post" action="{{url("/console/admin/accounts/" + account.id + "/role")}}" class="inline-form">
%         include("form_token.tpl")
<label class="hidden" for="role-{{account.id}}">{{t("admin.role_of", name=account.name)}}</label>
<select id="role-{{account.id}}" name="role">
%         for role in roles:
<option value="{{role}}" {{"selected" if role == account.role else ""}}>{{t("role." + role)}}</option>
%         end
</select>
<button class="quiet">{{t("admin.set_role")}}</button>
</form>
<form method="post" action="{{url("/console/admin/accounts/" + account.id + "/suspended")}}">
%         include("form_token.tpl")
<button name="suspended" value="{{"no" if account.suspended else "yes"}}" class="quiet">{{t("admin.unsuspend" if account.suspended else "admin.suspend")}}<span class="hidden"> {{account.name}}</span></button>
</form>
%     end
</li>
% end
</ul>
% if next_cursor:
<p><a href="{{url("/console/admin/accounts", q=query, cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
% end
<section>
<h2>{{t("admin.invite")}}</h2>
<form method="post" action="{{url("/console/admin/invitations")}}">
% include("form_token.tpl")
% include("field.tpl", name="email", label=t("field.email"), kind="email", most=254)
<button class="secondary">{{t("admin.invite")}}</button>
</form>
</section>
