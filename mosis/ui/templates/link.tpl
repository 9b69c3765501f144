% page.script("link.js")
% rebase("layout.tpl", title=t("link.title"), shape="narrow")
<h1>{{t("link.title")}}</h1>
<p>{{t("link.about")}}</p>
<ul>
<li><a data-kind="verify" href="{{url("/console/verify")}}">{{t("verify.title")}}</a></li>
<li><a data-kind="reset" href="{{url("/console/reset")}}">{{t("reset.title")}}</a></li>
<li><a data-kind="invite" href="{{url("/console/invitation")}}">{{t("invitation.title")}}</a></li>
<li><a data-kind="device" href="{{url("/console/device")}}">{{t("device.title")}}</a></li>
</ul>
