<!doctype html>
<html lang="{{t("language")}}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{title}} - {{page.store_name}}</title>
<link rel="stylesheet" href="{{page.asset("portal.css")}}">
<link rel="icon" href="{{page.asset("icon.svg")}}" type="image/svg+xml">
% if get("head"):
%     include(head)
% end
<script type="module" src="{{page.asset("local_time.js")}}"></script>
% for name in page.scripts:
<script type="module" src="{{page.asset(name)}}"></script>
% end
</head>
<body>
<a class="skip" href="#main">{{t("layout.skip")}}</a>
<header class="top">
<nav aria-label="{{t("layout.site")}}">
<a class="brand" href="{{url("/")}}"><img src="{{page.asset("icon.svg")}}" alt="" width="28" height="28">{{page.store_name}}</a>
<ul>
<li><a href="{{url("/docs")}}">{{t("layout.docs")}}</a></li>
% if page.public or page.signed_in:
<li><a href="{{url("/console/")}}">{{t("layout.console")}}</a></li>
% else:
<li><a href="{{url("/console/sign-in")}}">{{t("layout.sign_in")}}</a></li>
% end
</ul>
</nav>
% if page.signed_in:
<nav class="console" aria-label="{{t("layout.console")}}">
<ul>
%     for entry in page.navigation():
<li><a href="{{url(entry.path)}}" {{"aria-current=page" if page.is_here(entry.path) else ""}}>{{t(entry.text)}}</a></li>
%     end
</ul>
<form method="post" action="{{url("/console/sign-out")}}">
%     include("form_token.tpl")
<button class="quiet">{{t("layout.sign_out")}}</button>
</form>
</nav>
% end
</header>
<main id="main" class="{{get("shape") or "wide"}}">
% if page.notice:
<p class="notice" role="status">{{page.notice}}</p>
% end
% if page.problem and not get("is_error_page"):
<div class="alert" role="alert">
<p>{{page.problem_text}}</p>
%     if page.problem.code == "package_rejected":
<ul class="findings">
%         for each in page.problem.errors:
<li class="error"><code>{{each.get("code", "")}}</code> {{each.get("path") or ""}}{{":%s" % each["line"] if each.get("line") else ""}} {{each.get("detail", "")}}</li>
%         end
</ul>
%     end
<p><small>{{t("error.code", code=page.problem.code, request_id=page.request_id)}}</small></p>
</div>
% end
{{!base}}
</main>
<footer class="bottom">
<small><a href="{{url("/docs/API")}}">{{t("layout.api")}}</a> <a href="{{url("/feed.atom")}}">{{t("layout.feed")}}</a></small>
</footer>
</body>
</html>
