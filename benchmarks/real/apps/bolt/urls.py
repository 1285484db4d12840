"""Django's own URLs: none."""

urlpatterns: list[object] = []
