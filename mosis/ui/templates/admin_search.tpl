<form method="get" action="{{url(action)}}" role="search" class="search two">
<label for="q" class="hidden">{{t("admin.search")}}</label>
<input id="q" type="search" name="q" value="{{query}}" maxlength="200" placeholder="{{t("admin.search")}}">
<button>{{t("store.find")}}</button>
</form>
