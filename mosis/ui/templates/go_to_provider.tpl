% rebase("layout.tpl", title=t("provider.title"), shape="narrow", head="go_to_provider_head.tpl")
<h1>{{t("provider.title")}}</h1>
<p><a href="{{address}}" rel="noreferrer">{{t("provider.go", provider=page.provider_name(provider))}}</a></p>
