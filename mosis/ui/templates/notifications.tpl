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
