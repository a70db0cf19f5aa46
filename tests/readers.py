"""Processes that read a student back, forked from one that has imported what they need.

heed begins such a process for every training (`heed.training.reload`): two to three seconds, nearly
all of them imports. For tests that train in their own process, the imports are made once. What is
run is what heed would run, in a process of its own that knows nothing of heed or of the others.
`training/test_reload.py` and every command that a test gives go the whole way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.training.reload import SPARED

IMPORTS = f"""
import gc
gc.disable()
import json, os, runpy, sys, traceback
sys.modules.update(dict.fromkeys({SPARED}))
import peft, safetensors.torch, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
gc.freeze()
"""
SERVE = """
for line in sys.stdin:
    given = json.loads(line)
    child = os.fork()
    if not child:
        for number, name in enumerate(given["files"], 1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        code = 1
        try:
            os.chdir(given["cwd"])
            sys.argv = given["argv"]
            runpy.run_path(sys.argv[0], run_name="__main__")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Readers:
    """Takes the place of `subprocess` in `heed.training.reload`."""

    def __init__(self, folder: Path):
        self.folder, self.of = folder, os.getpid()
        self.env: dict[str, str] = {}
        self.server: subprocess.Popen[str] | None = None

    def run(self, line: Sequence[str], *, cwd: Path, env: Mapping[str, str], **how: Any) -> Any:
        """As `subprocess.run`; by a process that has all imports, if these packages are hidden."""
        now = {key: value for key, value in env.items() if key != "PYTEST_CURRENT_TEST"}
        hidden = f"dict.fromkeys({SPARED})" in Path(line[2]).read_text()
        assert list(line[:2]) == [sys.executable, "-P"]
        others = os.getpid() != self.of or (self.server and now != self.env)  # a rank, say
        if others or not hidden:
            return subprocess.run(line, cwd=cwd, env=env, **how)
        if self.server is None:
            self.env, self.server = now, self._begin(now)
        files = [self.folder / "out", self.folder / "err"]
        given = {"argv": line[2:], "cwd": str(cwd), "files": list(map(str, files))}
        self.server.stdin.write(json.dumps(given) + "\n")
        self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        return subprocess.CompletedProcess(line, code, *(file.read_text() for file in files))

    def _begin(self, env: Mapping[str, str]) -> subprocess.Popen[str]:
        line = [sys.executable, "-P", "-c", IMPORTS + SERVE]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen(line, cwd=self.folder, env=env, **pipes)

    def end(self) -> None:
        """Nobody is read back any more."""
        if self.server is not None:
            self.server.communicate()
            self.server = None
