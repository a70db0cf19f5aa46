"""How long a study's page takes: to be written, and to open in headless Chromium.

    python bench/page.py

Studies of 12 and of 200 made-up cells of 541 items, each with 25 types of instructions and a
training curve of 200 steps; three times each. Needs Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "analysis"))
import made_up_page as made

SIZES, TIMES, STEPS = (12, 200), 3, 200
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
LOADED = "return performance.getEntriesByType('navigation')[0].loadEventEnd"


def browser() -> webdriver.Chrome:
    """A headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for option in OPTIONS:
        options.add_argument(option)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def main() -> None:
    """Print a line per size, then the ratio of the two."""
    driver = browser()
    seconds: dict[int, tuple[float, float]] = {}
    for size in SIZES:
        results = made.many(size)
        curves = {one["run"]: made.curve(one["run"], STEPS) for one in results}
        losses = [{"data": "made up", "tokens": "a tokenizer", "runs": curves}]
        written, opened = [], []
        for _ in range(TIMES):
            with tempfile.TemporaryDirectory() as root:
                began = time.perf_counter()
                path = made.write_outputs(Path(root), results, losses=losses)
                written.append(time.perf_counter() - began)
                driver.get("about:blank")
                driver.get(path.as_uri())
                opened.append(driver.execute_script(LOADED) / 1000)
                megabytes = path.stat().st_size / 1e6
        seconds[size] = (statistics.median(written), statistics.median(opened))
        wrote, loaded = seconds[size]
        print(
            f"{size:4} cells: {megabytes:.2f} MB, written in {wrote:.2f} s, open in {loaded:.2f} s"
        )
    driver.quit()
    few, many = (seconds[size] for size in SIZES)
    print(f"ratio: written {many[0] / few[0]:.1f}, open {many[1] / few[1]:.1f}")


if __name__ == "__main__":
    main()
