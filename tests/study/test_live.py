"""A log is shown while it grows, and whole."""

import subprocess
import sys
import time

from heed.study.live import shown


def test_what_is_appended_is_printed_and_nothing_of_before(tmp_path, capfd):
    log = tmp_path / "cells/a.log"
    log.parent.mkdir()
    log.write_text("of another time\n")
    with shown(log), log.open("a", buffering=1) as file:
        file.write("one\n")
        while "one\n" not in (said := capfd.readouterr().out):
            time.sleep(0.01)
        file.write("ä\n" * 100_000)
        file.write("last")
    assert said == "one\n"
    assert capfd.readouterr().out == "ä\n" * 100_000 + "last"


READER = """
import sys, time
from pathlib import Path
from heed.study.live import shown
log = Path(sys.argv[1])
with shown(log), log.open("a", buffering=1) as file:
    for n in range(30):
        file.write(f"{n}\\n")
        time.sleep(0.02)
print("ended", file=sys.stderr)
"""


def test_it_goes_on_when_nobody_reads_any_more(tmp_path):
    line = [sys.executable, "-c", READER, str(tmp_path / "a.log")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        assert one.stdout.readline() == "0\n"
        one.stdout.close()
        assert one.stderr.read() == "ended\n"
        assert one.wait() == 0
    assert (tmp_path / "a.log").read_text().split()[-1] == "29"
