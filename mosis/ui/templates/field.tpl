% error, kind, hint = page.error_of(name), get("kind") or "text", get("hint") or ""
% shown = "" if kind == "password" else get("value") or page.typed(name)
<label for="field-{{name}}">{{label}}</label>
<input id="field-{{name}}" name="{{name}}" type="{{kind}}" value="{{shown}}" autocomplete="{{get("complete") or "off"}}" maxlength="{{get("most") or 1024}}" {{"inputmode=" + mode if get("mode") else ""}} {{"" if get("optional") else "required"}} {{"aria-invalid=true" if error else ""}} {{"data-fragment" if get("fragment") else ""}} aria-describedby="hint-{{name}}">
<small id="hint-{{name}}">{{error or hint}}</small>
