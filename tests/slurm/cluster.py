"""A SLURM of two nodes on the loopback address, in a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
PROGRAMS = (*DAEMONS, "sbatch", "srun", "scontrol", "squeue", "scancel")

SETTINGS = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
# cred_expire is also how long a job that was put back into the queue waits; 5 s is the least
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobRequeue=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=100000
MpiDefault=none
SlurmdParameters=config_overrides
PluginDir={plugins}
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
GresTypes=gpu
{nodes}
PartitionName=all Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""
NODES = ("n1", "n2")
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=4000 "
    "Gres=gpu:2 State=UNKNOWN"
)


def lacking() -> str | None:
    """Why no SLURM can be started here; nothing if one can."""
    if os.geteuid() != 0:
        return "a SLURM is started by root only"
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return f"not installed (apt install slurm-wlm munge): {' '.join(missing)}" if missing else None


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"])


@dataclass(eq=False)
class Cluster:
    """The daemons and how a command reaches them."""

    folder: Path
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to talk to this SLURM and to no other."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        own = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _path()}
        return kept | own | {"GLOO_SOCKET_IFNAME": "lo"}  # its two machines are one

    def start(self) -> None:
        """Start the daemons; back when the nodes take jobs."""
        self._write()
        munge = self.folder / "munge"
        files = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={munge / name}" for option, name in files.items()]
        self._run("munged", "--foreground", "--force", f"--socket={munge}/socket", *options)
        self._wait_for("munged", lambda: (munge / "socket").exists())
        self._run("slurmctld", "-D", "-c")
        for name in NODES:
            self._run("slurmd", "-D", "-c", "-N", name)
        state = ("sinfo", "--noheader", "--Node", "--format=%T")
        self._wait_for("slurmd", lambda: self.tell(*state).split() == ["idle"] * len(NODES))

    def _write(self) -> None:
        munge = self.folder / "munge"
        self.folder.chmod(0o755)
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(mode=0o700 if name == "munge" else 0o755)
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o400)
        controller, *ports = _free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        each = zip(NODES, ports, strict=True)
        lines = "\n".join(NODE.format(name=name, host=host, port=port) for name, port in each)
        about = {"host": host, "controller": controller, "folder": self.folder}
        settings = SETTINGS.format(nodes=lines, names=",".join(NODES), plugins=_plugins(), **about)
        (self.folder / "slurm.conf").write_text(settings)
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")

    def _run(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}.out").open("ab")
        with log:
            daemon = subprocess.Popen(
                command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.daemons.append(daemon)

    def _wait_for(self, name: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not ready():
            if time.monotonic() > end or self.daemons[-1].poll() is not None:
                logs = "\n".join(
                    path.read_text(errors="replace")[-2000:]
                    for path in sorted(self.folder.glob("**/*"))
                    if path.suffix in {".out", ".log"} or path.name == "log"
                )
                raise RuntimeError(f"{name} does not answer\n{logs}")
            time.sleep(0.1)

    def tell(self, *command: str) -> str:
        """One command of SLURM and what it printed."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=30)
        return done.stdout.strip()

    def processes(self) -> list[int]:
        """Ids of the daemons, of their jobs, and of all that was told where they are."""
        own, found = f"{self.folder}/", []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                said = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
                files = [os.readlink(path) for path in (process / "fd").iterdir()]
                if own.encode() in said or any(file.startswith(own) for file in files):
                    found.append(int(process.name))
        return found

    def stop(self) -> None:
        """End daemons and jobs, whatever they are doing."""
        end = time.monotonic() + 20
        while left := [process for process in self.processes() if process != os.getpid()]:
            assert time.monotonic() < end, f"not to be killed: {left}"
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for daemon in self.daemons:
                daemon.poll()
            time.sleep(0.05)
        for daemon in self.daemons:
            daemon.wait()


def _plugins() -> str:
    found = sorted(Path("/usr/lib").glob("*/slurm-wlm")) + sorted(Path("/usr/lib").glob("slurm*"))
    return ":".join(map(str, found))


def _free_ports(count: int) -> list[int]:
    listening = [socket.socket() for _ in range(count)]
    try:
        for one in listening:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in listening]
    finally:
        for one in listening:
            one.close()
