% rebase("layout.tpl", title=t("store.title"), head="store_head.tpl", about=t("store.about"))
% if not searched and first and not listings:
<h1>{{t("store.empty")}}</h1>
<p>{{t("store.empty_about")}}</p>
<ol>
<li>{{t("store.empty_admin")}}</li>
<li>{{t("store.empty_demo")}} <code>portal.py demo</code></li>
<li><a href="{{url("/docs/COOKBOOK")}}">{{t("store.empty_guide")}}</a></li>
</ol>
% else:
<h1 class="{{"hidden" if searched else ""}}">{{t("store.title")}}</h1>
<form method="get" action="{{url("/")}}" role="search" class="search">
<label for="q" class="hidden">{{t("store.search")}}</label>
<input id="q" type="search" name="q" value="{{query.text}}" maxlength="200" placeholder="{{t("store.search")}}">
%     if query.category:
<input type="hidden" name="category" value="{{query.category}}">
%     end
<label for="sort" class="hidden">{{t("store.sort")}}</label>
<select id="sort" name="sort">
<option value="">{{t("store.sort_best")}}</option>
%     for sort in sorts:
<option value="{{sort}}" {{"selected" if sort == query.sort else ""}}>{{t("store.sort_" + sort)}}</option>
%     end
</select>
<button>{{t("store.find")}}</button>
</form>
%     if categories:
<nav class="chips" aria-label="{{t("store.categories")}}">
<ul>
<li><a href="{{url("/")}}?{{address(category="", tag="")}}" {{"" if query.category else "aria-current=true"}}>{{t("store.all")}}</a></li>
%         for name, count in categories:
<li><a href="{{url("/")}}?{{address(category=name)}}" {{"aria-current=true" if name == query.category else ""}}>{{name}} <small>{{count_of(count)}}</small></a></li>
%         end
</ul>
</nav>
%     end
%     if query.tag:
<p>{{t("store.tagged", tag=query.tag)}} <a href="{{url("/")}}?{{address(tag="")}}">{{t("store.untag")}}</a></p>
%     end
%     if not listings:
<p role="status">{{t("store.nothing")}}</p>
%     end
<ul class="cards">
%     for app in listings:
<li><a href="{{url("/app/" + app.package_id)}}">
<img src="{{url("/assets/" + app.app_id + "/icon-128.png", v=app.version_id)}}" alt="" width="64" height="64" loading="lazy">
<span><strong>{{app.name}}</strong>
<span class="by">{{app.developer_name}}</span>
<span class="summary">{{app.summary}}</span></span>
</a></li>
%     end
</ul>
%     if more:
<p><a href="{{url("/")}}?{{more}}" rel="next" role="button" class="secondary">{{t("layout.more")}}</a></p>
%     end
% end
