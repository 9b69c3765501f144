% for field, lines in diffs:
<h3>{{t("listing_field." + field)}}</h3>
<div class="diff" tabindex="0" role="region" aria-label="{{t("review.diff_of", path=t("listing_field." + field))}}">
<table>
<tbody>
%     for line, text in lines:
%         if line.kind == "gap":
<tr class="gap"><td>{{t("review.gap", count=line.left_out)}}</td></tr>
%         else:
<tr class="{{line.kind}}"><td><code><span class="sign">{{{"added": "+", "removed": "\u2212", "same": "\u00a0"}[line.kind]}}</span>{{text}}</code></td></tr>
%         end
%     end
</tbody>
</table>
</div>
% end
