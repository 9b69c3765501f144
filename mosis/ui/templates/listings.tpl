% rebase("layout.tpl", title=t("listings.title"))
<h1>{{t("listings.title")}}</h1>
<nav class="chips" aria-label="{{t("reviews.states")}}">
<ul>
% for each in states:
<li><a href="{{url("/console/reviews/listings", state=each)}}" {{"aria-current=page" if each == state else ""}}>{{t("reviews.state_" + each)}}</a></li>
% end
<li><a href="{{url("/console/reviews")}}">{{t("listings.versions")}}</a></li>
</ul>
</nav>
% if listings:
%     include("listing_rows.tpl")
% else:
<p>{{t("reviews.none_" + state)}}</p>
% end
% if next_cursor:
<p><a href="{{url("/console/reviews/listings", state=state, cursor=next_cursor)}}" rel="next">{{t("layout.more")}}</a></p>
% end
