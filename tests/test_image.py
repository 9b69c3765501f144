"""What can be known of the image without building it: that it is not short of anything, and that its parts agree."""

import importlib.util
import re
import sys
from configparser import ConfigParser
from fnmatch import fnmatch
from types import ModuleType

import portal
from mosis import VERSION
from tests.test_architecture import MODULES, imports


def collect() -> ModuleType:
    """image/collect.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("collect", portal.HERE / "image/collect.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_is_left_out_of_the_standard_library_that_the_portal_imports() -> None:
    left_out = collect().NEVER_USED
    # the image sends the command line (mosis/client/) to developers, and never imports it
    run = [path for path in MODULES if "client" not in path.parts] + [portal.HERE / "portal.py"]
    names = {name for path in run for name in imports(path)}
    wanted = {name for name in names if name.split(".")[0] in sys.stdlib_module_names}
    assert "asyncio" in wanted  # the test looks at something
    for name in wanted:
        parts = name.split(".")
        for place in ("/".join(parts[:count]) for count in range(1, len(parts) + 1)):
            assert not any(
                fnmatch(each, pattern) for each in (place, place + ".py") for pattern in left_out
            ), name


def test_the_image_installs_what_every_setting_needs() -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(portal.HERE / "setup.cfg")
    extras = setup["options.extras_require"]
    named = setup["options"]["install_requires"] + extras["live"] + extras["objects"]
    pinned = set(
        re.findall(
            r"^([a-z0-9-]+)==",
            (portal.HERE / "requirements.txt").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )
    assert (
        {"bottle", "websockets", "obstore"}
        <= set(re.findall(r"^([a-z0-9-]+)", named, re.MULTILINE))
        <= pinned
    )


def test_compose_names_this_version_and_the_volumes_of_the_image() -> None:
    compose, dockerfile = (
        (portal.HERE / name).read_text(encoding="utf-8") for name in ("compose.yaml", "Dockerfile")
    )
    assert f"image: mosis-portal:{VERSION}\n" in compose
    volumes = re.findall(r'"(/\w+)"', dockerfile.partition("VOLUME")[2].partition("\n")[0])
    assert re.findall(r"- \./\w+:(/\w+)", compose) == volumes != []
    assert "\n    env_file: .env " in compose  # the long form is refused by Compose before 2.24
