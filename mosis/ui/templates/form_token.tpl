<input type="hidden" name="form_token" value="{{page.form_token}}">
