% rebase("layout.tpl", title=title, is_error_page=True, shape="narrow")
<h1>{{title}}</h1>
<p>{{page.problem_text}}</p>
% if page.problem.errors:
<ul>
%     for each in page.problem.errors:
<li>{{each.get("detail", "")}}</li>
%     end
</ul>
% end
% if code in ("unauthenticated", "invalid_token") and not page.public:
<p><a href="{{url("/console/sign-in")}}">{{t("layout.sign_in")}}</a></p>
% end
<p><a href="{{url("/")}}">{{t("error.to_store")}}</a></p>
<p><small>{{t("error.code", code=code, request_id=page.request_id)}}</small></p>
