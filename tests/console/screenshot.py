"""Take a picture of a running console: `python tests/console/screenshot.py URL OUT.png [options]`.

Options: --width 1280 --height 860 --lang en|ko --theme light|dark --page grid --full --wait SECONDS
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cdp import BrowserError, browser_page  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="Take a picture of a running console.")
    parser.add_argument("url")
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=860)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--lang", choices=("en", "ko"), default="en")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument("--page", default="overview")
    parser.add_argument("--full", action="store_true", help="the whole page, not only the first screen")
    parser.add_argument("--wait", type=float, default=2.5, help="seconds to stay on the page first")
    options = parser.parse_args()
    try:
        with browser_page() as page:
            page.size(options.width, options.height, scale=options.scale, mobile=options.width < 600)
            page.media(prefers_color_scheme=options.theme)
            page.open(
                f"{options.url.rstrip('/')}/#/{options.page}", "ko-KR" if options.lang == "ko" else "en-US"
            )
            page.wait("!!document.querySelector('#link.is-live')")
            time.sleep(options.wait)
            page.screenshot(options.out, full=options.full)
            for error in page.errors:
                print(error, file=sys.stderr)
    except BrowserError as error:
        print(f"screenshot: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
