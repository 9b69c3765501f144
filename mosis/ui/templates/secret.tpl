% rebase("layout.tpl", title=t("secret.title_" + kind), shape="narrow")
<h1>{{t("secret.title_" + kind)}}</h1>
<p>{{t("secret.about_" + kind, name=name)}}</p>
<p><code class="secret">{{secret}}</code></p>
<p class="notice">{{t("secret.once")}}</p>
<p><a href="{{url("/console/account")}}" role="button">{{t("secret.done")}}</a></p>
