"""Pushes, scales and deletes a static site with cloudfoundry-client: client.py API USER PASSWORD."""

import io
import sys
import time
import zipfile

from cloudfoundry_client.client import CloudFoundryClient
from cloudfoundry_client.v3.packages import PackageType

PATIENCE_S = 120


def until(what, ask):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.05)
    raise SystemExit(f"waited in vain for {what}")


def site():
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("Staticfile", "")
        archive.writestr("index.html", "from python\n")
    body.seek(0)
    return body


def main(api, user, password):
    client = CloudFoundryClient(api)
    client.init_with_user_credentials(user, password)

    org = client.v3.organizations.create("third-party", suspended=False)
    space = client.v3.spaces.create("third-party", org["guid"])
    assert [each["name"] for each in client.v3.spaces.list(names="third-party")] == ["third-party"]

    post = lambda path, **body: client.post(f"{api}{path}", **body).json()
    owner = {"space": {"data": {"guid": space["guid"]}}}
    app = post("/v3/apps", json={"name": "site", "relationships": owner})
    package = client.v3.packages.create(app["guid"], PackageType.BITS)
    uploaded = post(f"/v3/packages/{package['guid']}/upload", files={"bits": ("site.zip", site(), "application/zip")})
    assert uploaded["state"] == "READY", uploaded
    build = post("/v3/builds", json={"package": {"guid": package["guid"]}})

    def staged():
        now = client.get(f"{api}/v3/builds/{build['guid']}").json()
        assert now["state"] != "FAILED", now
        return now if now["state"] == "STAGED" else None

    droplet = until("the build", staged)["droplet"]["guid"]
    client.patch(f"{api}/v3/apps/{app['guid']}/relationships/current_droplet", json={"data": {"guid": droplet}})
    domain = next(iter(client.v3.domains.list()))
    route = post("/v3/routes", json={"host": "third", "relationships": {**owner, "domain": {"data": {"guid": domain["guid"]}}}})
    post(f"/v3/routes/{route['guid']}/destinations", json={"destinations": [{"app": {"guid": app["guid"]}}]})
    assert [each["host"] for each in client.v3.apps.list_routes(app["guid"])] == ["third"]

    post(f"/v3/apps/{app['guid']}/actions/start")
    stats = lambda: client.get(f"{api}/v3/apps/{app['guid']}/processes/web/stats").json()["resources"]
    running = lambda count: lambda: [each["state"] for each in stats()] == ["RUNNING"] * count
    until("one instance", running(1))
    post(f"/v3/apps/{app['guid']}/processes/web/actions/scale", json={"instances": 2, "memory_in_mb": "32"})
    until("two instances", running(2))

    types = {event["type"] for event in client.v3.audit_events.list(target_guids=app["guid"])}
    assert {"audit.app.create", "audit.app.start", "audit.app.process.scale"} <= types, types

    client.v3.apps.remove(app["guid"], asynchronous=False)
    assert list(client.v3.apps.list(names="site")) == []
    client.v3.organizations.remove(org["guid"], asynchronous=False)
    print("done")


main(*sys.argv[1:])
