<h3>{{file["path"]}} <small>{{t("file." + file["state"])}}</small></h3>
% if file["kind"] == "picture":
<div class="pictures">
%     for side, address_of_side in file["raw"]:
<figure><img src="{{address_of_side}}" alt="{{t("review.picture_" + side, path=file["path"])}}" loading="lazy"><figcaption>{{t("review." + side)}}</figcaption></figure>
%     end
</div>
% elif file["kind"] == "other":
<p>{{t("review.not_compared")}}</p>
% else:
%     if not file["exact"]:
<p class="alert">{{t("review.rough")}}</p>
%     end
%     if not file["lines"]:
<p>{{t("review.empty")}}</p>
%     elif all(line.kind == "gap" for line, _, _ in file["lines"]):
<p>{{t("review.unchanged")}}</p>
%     else:
<div class="diff" tabindex="0" role="region" aria-label="{{t("review.diff_of", path=file["path"])}}">
<table>
<thead class="hidden"><tr><th scope="col">{{t("review.before")}}</th><th scope="col">{{t("review.after")}}</th><th scope="col">{{t("review.line")}}</th></tr></thead>
<tbody>
%         for line, text, more in file["lines"]:
%             if line.kind == "gap":
<tr class="gap"><td colspan="3">{{t("review.gap", count=line.left_out)}}</td></tr>
%             else:
<tr class="{{line.kind}}"><td class="number">{{line.before or ""}}</td><td class="number" {{"id=line-%d" % line.after if line.after else ""}}>{{line.after or ""}}</td><td><code><span class="sign">{{{"added": "+", "removed": "\u2212", "same": "\u00a0"}[line.kind]}}</span>{{text}}</code>
%                 if more:
<strong class="tag removed">{{t("review.cut", count=more)}}</strong>
%                 end
</td></tr>
%                 for finding in file["by_line"].get(line.after, []):
<tr class="note {{finding["severity"]}}"><td colspan="2"></td><td><strong>{{t("severity." + finding["severity"])}}</strong> <code>{{finding["code"]}}</code> {{finding["detail"]}}</td></tr>
%                 end
%             end
%         end
</tbody>
</table>
</div>
%     end
%     if file["first"] or file["next"]:
<p class="alert">{{t("review.part", first=file["first"] + 1, last=min(file["first"] + len(file["lines"]), file["total"]), total=file["total"])}}
%         if file["next"]:
<a href="{{url("/console/reviews/" + row.review.id, **{"file": file["path"], "from": str(file["next"])})}}#file" rel="next">{{t("review.next_part")}}</a>
%         end
</p>
%     end
% end
<p class="links">
% for side, address_of_side in file["raw"]:
<a href="{{address_of_side}}">{{t("review.raw_" + side)}}</a>
% end
</p>
