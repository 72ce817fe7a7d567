"""Builds hftransfer/explore/vendor anew: the parts of Apache ECharts that the explore page uses, as one file.

    python tools/vendor_echarts.py           # writes the files
    python tools/vendor_echarts.py --check   # builds them elsewhere and compares: nothing was changed by hand

Needs node and npm, and the npm registry. The versions are pinned here, so the same bytes come out each time; to take
a newer ECharts, change the version, run this, run tests/explore and look at a page.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = {"echarts": "6.1.0", "zrender": "6.1.0", "tslib": "2.3.0", "esbuild": "0.28.2"}
VENDOR = Path(__file__).parent.parent / "hftransfer" / "explore" / "vendor"
ENTRY = """
export { init } from 'echarts/core';
import { use } from 'echarts/core';
import { ScatterChart } from 'echarts/charts';
import { BrushComponent, DataZoomInsideComponent, GridComponent } from 'echarts/components';
import { LabelLayout } from 'echarts/features';
import { CanvasRenderer } from 'echarts/renderers';
use([ScatterChart, GridComponent, BrushComponent, DataZoomInsideComponent, LabelLayout, CanvasRenderer]);
"""
BUILD = [
    "--bundle", "--minify", "--format=iife", "--global-name=echarts", "--target=es2020", "--charset=utf8",
    '--define:process.env.NODE_ENV="production"', "--legal-comments=none", "--log-level=warning",
]  # fmt: skip
LICENCES = {  # of all that is in the bundle
    "Apache ECharts": ("echarts/NOTICE", "echarts/LICENSE"),
    "d3, parts of which are in ECharts": ("echarts/licenses/LICENSE-d3",),
    "ZRender": ("zrender/LICENSE",),
    "tslib": ("tslib/LICENSE.txt",),
}


def built(work: Path) -> dict[str, bytes]:
    """Name and bytes of each file of the vendor folder."""
    pinned = [f"{name}@{version}" for name, version in VERSIONS.items()]
    subprocess.run(["npm", "init", "--yes"], cwd=work, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", *pinned], cwd=work, check=True)
    (work / "entry.js").write_text(ENTRY)
    subprocess.run(["npx", "esbuild", "entry.js", *BUILD, "--outfile=echarts.min.js"], cwd=work, check=True)
    bundle = (work / "echarts.min.js").read_bytes()
    texts = []
    for title, files in LICENCES.items():
        texts += [f"==== {title} ====", *((work / "node_modules" / file).read_text().strip() for file in files)]
    origin = {
        "made_by": "tools/vendor_echarts.py",
        "npm": VERSIONS,
        "entry": ENTRY.strip().splitlines(),
        "esbuild": BUILD,
        "sha256": hashlib.sha256(bundle).hexdigest(),
    }
    return {
        "echarts.min.js": bundle,
        "LICENSES.txt": ("\n\n".join(texts) + "\n").encode(),
        "origin.json": (json.dumps(origin, indent=2) + "\n").encode(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as work:
        files = built(Path(work))
    if check:
        wrong = [name for name, data in files.items() if (VENDOR / name).read_bytes() != data]
        sys.exit(f"differs from what is built: {', '.join(wrong)}" if wrong else None)
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (VENDOR / name).write_bytes(data)


if __name__ == "__main__":
    main()
