"""A real SLURM of one node on this machine, in a folder of its own: munged, slurmctld and slurmd."""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "sinfo")
SETTINGS = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=15
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdTimeout=5
ReturnToService=2
KillWait=1
UnkillableStepTimeout=10
MinJobAge=600
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


@dataclass(frozen=True)
class Node:
    """A running SLURM; `folder` has its settings, its state and its logs."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """How commands find this SLURM instead of the machine's own."""
        return {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def call(self, *command: str) -> str:
        """What a command prints; AssertionError with its complaint when it fails or hangs."""
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def start_slurmd(self):
        """Start the node's own process, and wait until the cluster has jobs run on it."""
        self.call("slurmd", "-N", "localhost")
        wait_until(lambda: self.call("sinfo", "-h", "-o", "%t").strip() in ("idle", "mix", "alloc"), 20)

    def processes(self) -> list[int]:
        """The node's own process, those that look after its job steps, and the jobs'."""
        setting, found = f"SLURM_CONF={self.folder / 'slurm.conf'}", []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (path / "environ").read_text(errors="replace").split("\0")
                is_ours = (path / "cmdline").read_text().startswith(("slurmd", "slurmstepd"))
                if setting in variables and (is_ours or any(one.startswith("SLURM_JOB_ID=") for one in variables)):
                    found.append(int(path.name))
        return found

    def cut_power(self):
        """All processes of the node are gone at once."""
        while found := self.processes():
            for process in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def wait_until(test, seconds: float):
    """Until test() is true; AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


def why_not() -> str:
    """Why no SLURM can be started here; empty if it can."""
    missing = [name for name in COMMANDS if not shutil.which(name)]
    return f"needs slurm-wlm and munge; this machine lacks {', '.join(missing)}" if missing else ""


@contextlib.contextmanager
def running_node(folder: Path):
    """Yield a SLURM of one node; its processes end with the block."""
    node = Node(folder)
    for name in ("state", "spool", "munge", "bin"):
        (folder / name).mkdir()
    (folder / "munge").chmod(0o711)
    settings = SETTINGS.format(user=getpass.getuser(), folder=folder, ports=free_ports(2))
    (folder / "slurm.conf").write_text(settings)
    (folder / "gres.conf").write_text("NodeName=localhost Name=gpu File=/dev/null,/dev/zero\n")  # no real GPUs
    # The executor's jobs call srun without SLURM_CONF.
    (folder / "bin" / "srun").write_text(
        f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n'
    )
    (folder / "bin" / "srun").chmod(0o755)
    try:
        start_munge(folder)
        node.call("slurmctld", "-i")
        node.start_slurmd()
        yield node
    finally:
        stop(node)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start_munge(folder: Path):
    """Start munged; it holds the cluster's key."""
    names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    command = ["munged", "--force", *(f"--{option}={folder / 'munge' / name}" for option, name in names.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def stop(node: Node):
    """End everything that runs on the node, and the cluster's other two processes."""
    node.cut_power()
    for path in (node.folder / "slurmctld.pid", node.folder / "munge" / "pid"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(path.read_text()), signal.SIGTERM)
