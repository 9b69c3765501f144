% error, hint = page.error_of(name), get("hint") or ""
% form_id = get("form_id") or ""
<label for="field-{{form_id}}{{name}}">{{label}}</label>
<textarea id="field-{{form_id}}{{name}}" name="{{name}}" rows="{{get("rows") or 3}}" maxlength="{{get("most") or 5000}}" {{"" if get("optional") else "required"}} {{"aria-invalid=true" if error else ""}} aria-describedby="hint-{{form_id}}{{name}}">
{{get("value") or page.typed(name)}}</textarea>
<small id="hint-{{form_id}}{{name}}">{{error or hint}}</small>
