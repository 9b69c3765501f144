% rebase("layout.tpl", title=app.name, head="store_head.tpl", about=app.summary or app.name)
<header class="app">
<img src="{{url("/assets/" + app.app_id + "/icon-128.png", v=app.version_id)}}" alt="" width="96" height="96">
<div>
<h1>{{app.name}}</h1>
<p>{{app.developer_name}}
% if app.category:
 - <a href="{{url("/", category=app.category)}}">{{app.category}}</a>
% end
</p>
</div>
<a role="button" class="get" href="{{url(package)}}" download="{{app.package_id}}-{{app.version}}.mosis">{{t("app.download")}} <small>{{size_of(app.size_bytes)}}</small></a>
</header>
% if app.summary:
<p class="lead">{{app.summary}}</p>
% end
% if screenshots:
<div class="shots" role="group" aria-label="{{t("app.screenshots")}}" tabindex="0">
%     for number, address in enumerate(screenshots, 1):
<a href="{{url(address, v=app.version_id)}}"><img src="{{url(address, v=app.version_id)}}" alt="{{t("app.screenshot", number=number)}}" loading="lazy" height="360"></a>
%     end
</div>
% end
% if app.description:
<section class="description">
<h2 class="hidden">{{t("app.description")}}</h2>
%     for paragraph in filter(None, map(str.strip, app.description.split("\n\n"))):
<p>{{paragraph}}</p>
%     end
</section>
% end
% if tags:
<ul class="tags" aria-label="{{t("app.tags")}}">
%     for tag in tags:
<li><a href="{{url("/", tag=tag)}}">{{tag}}</a></li>
%     end
</ul>
% end
<section>
<h2>{{t("app.permissions")}}</h2>
% if permissions:
<ul>
%     for name in permissions:
<li>{{page.words("permission." + name, name)}}</li>
%     end
</ul>
% else:
<p>{{t("app.no_permissions")}}</p>
% end
</section>
<section>
<h2>{{t("app.install")}}</h2>
<p>{{t("app.install_about")}}</p>
<dl class="facts">
<dt>{{t("app.package_id")}}</dt><dd><code>{{app.package_id}}</code></dd>
<dt>{{t("app.version")}}</dt><dd>{{app.version}}</dd>
<dt>{{t("app.published")}}</dt><dd><time datetime="{{app.published_at}}">{{day_of(app.published_at)}}</time></dd>
<dt>{{t("app.size")}}</dt><dd>{{size_of(app.size_bytes)}}</dd>
% if app.min_mosis_version:
<dt>{{t("app.needs")}}</dt><dd>Mosis {{app.min_mosis_version}}</dd>
% end
<dt>{{t("app.downloads")}}</dt><dd>{{count_of(app.downloads)}}</dd>
% if app.homepage and app.homepage.startswith(("https://", "http://")):
<dt>{{t("app.homepage")}}</dt><dd><a href="{{app.homepage}}" rel="nofollow noopener noreferrer ugc">{{app.homepage}}</a></dd>
% end
<dt>SHA-256</dt><dd><code>{{app.sha256}}</code></dd>
<dt>{{t("app.key")}}</dt><dd><code>{{fingerprint}}</code></dd>
</dl>
<p><a href="{{url("/app/" + app.package_id + "/report")}}" rel="nofollow">{{t("app.report")}}</a></p>
</section>
<section>
<h2>{{t("app.versions")}}</h2>
% for version in versions:
<article class="version">
<h3>{{version.version}} <small><time datetime="{{version.published_at}}">{{day_of(version.published_at)}}</time> - {{size_of(version.size_bytes)}}{{" - " + t("app.beta") if version.channel == "beta" else ""}}</small></h3>
%     if version.release_notes:
<p class="notes">{{version.release_notes}}</p>
%     end
</article>
% end
</section>
