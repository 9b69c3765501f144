% rebase("layout.tpl", title=t("notifications.title"))
<h1>{{t("notifications.title")}}</h1>
% if unread:
<form method="post" action="{{url("/console/notifications/read-all")}}" class="inline">
%     include("form_token.tpl")
<span>{{t("notifications.unread", count=unread)}}</span>
<button class="quiet">{{t("notifications.read_all")}}</button>
</form>
% end
% if not events:
<p>{{t("notifications.none")}}</p>
% end
<ol class="events">
% for event, text in events:
<li class="{{"" if event.read_at else "unread"}}">
<p>{{text}}</p>
<small><time datetime="{{event.created_at}}">{{minute_of(event.created_at)}}</time>{{"" if event.read_at else " - " + t("notifications.new")}}</small>
</li>
% end
</ol>
% if next_cursor:
<p><a href="{{url("/console/notifications", cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
% end
<section aria-labelledby="mail">
<h2 id="mail">{{t("notifications.mail")}}</h2>
<p>{{t("notifications.mail_about")}}</p>
<form method="post" action="{{url("/console/notifications/mail")}}">
%     include("form_token.tpl")
<fieldset>
% for kind, mailed in choices.items():
<label><input type="checkbox" name="mail" value="{{kind}}" {{"checked" if mailed else ""}}> {{t("kind." + kind)}}</label>
% end
</fieldset>
<button>{{t("notifications.mail_save")}}</button>
</form>
</section>
