<link rel="alternate" type="application/atom+xml" title="{{t("layout.feed")}}" href="{{url("/feed.atom")}}">
<link rel="canonical" href="{{canonical}}">
<meta name="description" content="{{about}}">
<meta property="og:title" content="{{title}}">
<meta property="og:type" content="website">
<meta property="og:url" content="{{canonical}}">
<meta property="og:description" content="{{about}}">
% if get("icon"):
<meta property="og:image" content="{{icon}}">
% end
