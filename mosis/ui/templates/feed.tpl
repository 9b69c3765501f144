<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
<title>{{page.store_name}}</title>
<id>{{absolute("/feed.atom")}}</id>
<link rel="self" href="{{absolute("/feed.atom")}}"/>
<link rel="alternate" type="text/html" href="{{absolute("/")}}"/>
<updated>{{updated}}</updated>
% for listing, version in releases:
<entry>
<title>{{text(listing.name)}} {{version.version}}</title>
<id>urn:uuid:{{version.id}}</id>
<link rel="alternate" type="text/html" href="{{absolute("/app/" + listing.package_id)}}"/>
<published>{{version.published_at}}</published>
<updated>{{version.listed_at}}</updated>
<author><name>{{text(listing.developer_name)}}</name></author>
<summary type="text">{{text(version.release_notes or listing.summary)}}</summary>
</entry>
% end
</feed>
