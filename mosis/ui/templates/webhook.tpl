% rebase("layout.tpl", title=t("webhook.title"))
% here = "/console/account/webhooks/" + webhook.id
<p class="links"><a href="{{url("/console/account")}}#webhooks">{{t("account.title")}}</a></p>
<h1>{{t("webhook.title")}}</h1>
<dl class="facts">
<dt>{{t("account.url")}}</dt><dd>{{webhook.url}}</dd>
<dt>{{t("review.state")}}</dt><dd>{{t("account.on" if webhook.enabled else "account.off")}}</dd>
<dt>{{t("account.kinds")}}</dt><dd>{{", ".join(kinds) if kinds else t("webhook.all")}}</dd>
% if webhook.failing_since:
<dt>{{t("account.failing")}}</dt><dd><time datetime="{{webhook.failing_since}}">{{minute_of(webhook.failing_since)}}</time></dd>
% end
</dl>
<div class="moves">
% include("button.tpl", action=here + "/switch", label=t("webhook.off" if webhook.enabled else "webhook.on"), look="secondary")
% include("button.tpl", action=here + "/rotate", label=t("webhook.rotate"), look="secondary")
% include("button.tpl", action=here + "/delete", label=t("webhook.delete"), look="danger")
</div>
<h2>{{t("webhook.log")}}</h2>
% if not deliveries:
<p>{{t("webhook.none")}}</p>
% end
<ul class="rows">
% for delivery, event in deliveries:
<li><div><strong>{{t("delivery." + delivery.state)}}</strong> <code>{{event.kind if event else delivery.event_id}}</code> {{event.package_id or "" if event else ""}}
<small><time datetime="{{delivery.created_at}}">{{minute_of(delivery.created_at)}}</time>, {{t("webhook.attempts", count=delivery.attempts)}}{{", HTTP %d" % delivery.status if delivery.status else ""}}{{", " + delivery.error if delivery.error else ""}}</small></div>
%     if delivery.state != "waiting":
%         include("button.tpl", action=here + "/deliveries/" + delivery.id + "/redeliver", label=t("webhook.redeliver"), what=event.kind if event else "")
%     end
</li>
% end
</ul>
% if next_cursor:
<p><a href="{{url(here, cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
% end
