<figure class="chart">
<figcaption>{{chart.title}}{{" (" + chart.unit + ")" if chart.unit else ""}}</figcaption>
% if chart.is_empty:
<p class="quiet-text">{{t("quality.nothing")}}</p>
% else:
<svg viewBox="0 0 640 200" role="img" aria-label="{{t("quality.chart", title=chart.title)}}">
%     for y, label in chart.grid:
<line class="grid" x1="52" x2="632" y1="{{y}}" y2="{{y}}"/><text class="label" x="46" y="{{y + 4}}" text-anchor="end">{{label}}</text>
%     end
%     for x, anchor, label in chart.ticks:
<text class="label" x="{{x}}" y="194" text-anchor="{{anchor}}">{{label}}</text>
%     end
%     for bar in chart.bars:
<rect class="bar" x="{{bar.x}}" y="{{bar.y}}" width="{{bar.width}}" height="{{bar.height}}"><title>{{bar.title}}</title></rect>
%     end
%     for number, parts in enumerate(chart.lines):
%         for points in parts:
<polyline class="line line-{{number}}" points="{{points}}"/>
%         end
%         for x, y in chart.dots[number]:
<circle class="dot line-{{number}}" cx="{{x}}" cy="{{y}}" r="3"/>
%         end
%     end
</svg>
%     if len(chart.series) > 1:
<ul class="legend">
%         for number, series in enumerate(chart.series):
<li class="line-{{number}}">{{series.name}}</li>
%         end
</ul>
%     end
<details>
<summary>{{t("quality.numbers")}}</summary>
<div class="scroll" tabindex="0" role="region" aria-label="{{t("quality.table", title=chart.title)}}">
<table>
<thead><tr><th scope="col">{{t("quality.day")}}</th>
%     for series in chart.series:
<th scope="col">{{series.name}}</th>
%     end
</tr></thead>
<tbody>
%     for at, label in enumerate(chart.labels):
<tr><th scope="row">{{label}}</th>
%         for series in chart.series:
<td>{{written(series.values[at])}}</td>
%         end
</tr>
%     end
</tbody>
</table>
</div>
</details>
% end
</figure>
