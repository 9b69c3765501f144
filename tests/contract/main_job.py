"""The main job through a client that was generated from the description and knows nothing else: from an account to the store.

python -m tests.contract.main_job URL FOLDER REVIEWER_TOKEN    (FOLDER holds the generated package `client`)
"""

import importlib
import io
import sys
import time
from typing import Any

from tests.package_builder import build_package, signing_key

PACKAGE_ID = "com.generated.notes"


def main(url: str, folder: str, reviewer_token: str) -> None:
    sys.path.insert(0, folder)
    client, models, types = (
        importlib.import_module(name) for name in ("client", "client.models", "client.types")
    )

    def call(name: str, who: Any, *arguments: Any, **more: Any) -> Any:
        module = importlib.import_module(f"client.api.{name}")  # tag.operation
        answer = module.sync(*arguments, client=who, **more)
        assert not isinstance(answer, models.Problem), f"{name}: {answer}"
        return answer

    body = models.AuthRegisterBody(
        email="grace@example.net", password="not the one of the examples", name="Grace"
    )
    signed_in = call("auth.auth_register", client.Client(base_url=url), body=body)
    grace = client.AuthenticatedClient(base_url=url, token=signed_in.access_token)
    rita = client.AuthenticatedClient(base_url=url, token=reviewer_token)
    key = signing_key()
    call(
        "keys.signing_keys_create",
        grace,
        body=models.SigningKeysCreateBody(name="laptop", public_key=key.public_base64),
    )
    app = call(
        "apps.apps_create", grace, body=models.AppsCreateBody(package_id=PACKAGE_ID, name="Notes")
    )
    package = build_package(package_id=PACKAGE_ID, version="1.0.0", version_code=1, key=key)
    file = types.File(
        payload=io.BytesIO(package), file_name="notes.mosis", mime_type="application/octet-stream"
    )
    version = call(
        "versions.versions_create",
        grace,
        app.package_id,
        body=models.VersionsCreateFilesBody(package=file),
    )
    assert version.state == "checking", version
    deadline = time.monotonic() + 30
    while version.state == "checking" and time.monotonic() < deadline:
        time.sleep(0.2)
        version = call("versions.versions_get", grace, app.package_id, version.version)
    version = call(
        "versions.versions_submit",
        grace,
        app.package_id,
        version.version,
        body=models.VersionsSubmitBody(),
    )
    call(
        "reviews.reviews_approve",
        rita,
        str(version.review.id),
        body=models.ReviewsApproveBody(comment="Very nice."),
    )
    version = call(
        "versions.versions_publish",
        grace,
        app.package_id,
        version.version,
        body=models.VersionsPublishBody(),
    )
    assert version.state == "published", version
    listed = call("store.store_apps_list", client.Client(base_url=url), q="notes")
    assert PACKAGE_ID in [each.package_id for each in listed.apps]
    path = (
        "store.packages_get",
        client.Client(base_url=url),
        str(app.developer_id),
        str(app.id),
        version.version,
    )
    assert call(*path).payload.read() == package
    print("the generated client has done the main job")


if __name__ == "__main__":
    main(*sys.argv[1:4])
