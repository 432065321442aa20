"""The version of gothreads, and where it is installed."""

import json
from importlib.metadata import distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit

__version__ = "0.1.0"


def installed_package() -> Path | None:
    """The folder of the installed package; None if gothreads is not installed.

    It may differ from the imported one: Python first finds a checkout that it is run from. For an editable install, it
    is the folder in the checkout.
    """
    for distribution in distributions(name="gothreads"):
        if distribution.read_text("RECORD") is None:  # gothreads.egg-info, left in a checkout by a build
            continue
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            return Path(unquote(urlsplit(origin["url"]).path), "gothreads")
        return Path(str(distribution.locate_file("gothreads")))
    return None
