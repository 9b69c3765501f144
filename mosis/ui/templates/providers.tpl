% if providers:
<p class="or"><span>{{t("sign_in.or")}}</span></p>
%     for name in providers:
<form method="post" action="{{url("/console/sign-in/" + name)}}">
%         include("form_token.tpl")
<input type="hidden" name="next" value="{{page.next_path()}}">
<button class="secondary">{{t("sign_in.with", provider=page.provider_name(name))}}</button>
</form>
%     end
% end
