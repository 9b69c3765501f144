<form method="post" action="{{url(action)}}">
% include("form_token.tpl")
<button class="{{get("look") or "quiet"}}">{{label}}<span class="hidden"> {{get("what") or ""}}</span></button>
</form>
