"""A study on a real Slurm: munge, slurmctld and slurmd of this machine, in a temporary folder."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from at_hand.studies import SLOPE, SMALL, compute_here, write_study

pytestmark = pytest.mark.serial

SECONDS = 100.0  # after which something hangs; on a quiet machine nothing here takes more than ten
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
DAEMONS, CLIENTS = ("munged", "slurmctld", "slurmd"), ("sbatch", "sinfo", "squeue", "scancel")
PROGRAMS = {name: shutil.which(name, path=SEARCH) for name in (*DAEMONS, *CLIENTS)}

# One node, this one, without what needs privileges: no cgroups, no accounting, credentials from a munge of its own.
CONFIGURATION = """
ClusterName=mvpde
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={megabytes} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def wait_until(done: Callable[[], bool], what: str, folder: Path) -> None:
    """Look ten times a second, for SECONDS at most; then fail with what the daemons said."""
    limit = time.monotonic() + SECONDS
    while not done():
        if time.monotonic() > limit:
            logs = "".join(f"\n== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in sorted(folder.glob("*.log")))
            pytest.fail(f"{what} after {SECONDS:g} s{logs}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def daemon(folder: Path, environment: dict[str, str], name: str, *arguments: str) -> Iterator[None]:
    """A daemon in the foreground, our own child, ended with the block."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(PROGRAMS[name]), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Slurm:
    """A Slurm of one node: where its files are, and its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": SEARCH}

    def said(self, *command: str) -> str:
        """What a client prints."""
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        return result.stdout

    def idle(self) -> bool:
        return self.said("sinfo", "-h", "-o", "%T").strip() == "idle"

    def empty(self) -> bool:
        return self.said("squeue", "-h", "-o", "%A").strip() == ""


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    """Started for one test, ended after it."""
    absent = [name for name, path in PROGRAMS.items() if path is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} not found: run 'apt install slurmctld slurmd slurm-client munge'")
    with ExitStack() as stack:  # in /tmp: the path of a socket has at most 107 characters
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp", ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        found = Slurm(folder)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "munge.key").touch(0o600)
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "cgroup.conf").touch()
        content = CONFIGURATION.format(
            host=platform.node().split(".")[0],
            ports=free_ports(2),
            user=getpass.getuser(),
            folder=folder,
            cpus=os.cpu_count(),
            megabytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        )
        (folder / "slurm.conf").write_text(content)
        files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munged.seed"}
        own = [f"--{option}={folder / name}" for option, name in files.items()]
        stack.enter_context(daemon(folder, found.environment, "munged", "--foreground", "--force", *own))
        wait_until((folder / "munge.socket").exists, "munged does not answer", folder)
        for name in ("slurmctld", "slurmd"):
            stack.enter_context(daemon(folder, found.environment, name, "-D", "-f", str(folder / "slurm.conf")))
        wait_until(found.idle, "the node is not ready", folder)
        yield found
        if not found.empty():
            found.said("scancel", "--signal=KILL", "--user", getpass.getuser())
            wait_until(found.empty, "jobs do not end", folder)


def submit(slurm: Slurm, path: Path, out: Path, *options: str) -> str:
    """`mvpde study --slurm`, and nothing more, until the queue is empty; what is in the logs of its jobs."""
    command = [sys.executable, "-m", "mvpde", "study", str(path), "--out", str(out), "--slurm", *options]
    done = subprocess.run(command, env=slurm.environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0 and "submitted as job array" in done.stdout, done.stderr
    wait_until(slurm.empty, "the queue is not empty", slurm.folder)
    return "".join(f"\n== {log.name}\n{log.read_text()}" for log in sorted((out / "logs").iterdir()))


def test_an_array_ends_with_the_table_of_a_local_study(tmp_path: Path, slurm: Slurm) -> None:
    """Four points, two of them wrong; the array goes on without them and the table comes after it."""
    fixed = {key: value for key, value in SMALL.items() if key != "characteristics.nodes"}
    vary = {"ensemble.particles": [50, 100], "characteristics.nodes": [[8, 8], [8]]}
    measure = {**SLOPE, "y": "comparison.ensemble_vs_characteristics.prediction_error", "discretisation": None}
    measure = {key: value for key, value in measure.items() if value is not None}
    path = write_study(tmp_path, set=fixed, vary=vary, options={"without": ["density"]}, measure=measure)
    compute_here(path, tmp_path / "local")
    said = submit(slurm, path, tmp_path / "out", "--jobs", "2")
    for name in ("table.csv", "verdict.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes(), said
    assert [line.split(",")[2] for line in (tmp_path / "out" / "table.csv").read_text().splitlines()[1:]] == [
        "done",
        "failed",
    ] * 2


def test_a_point_of_an_array_runs_on_two_ranks(tmp_path: Path, slurm: Slurm) -> None:
    """Inside a job, mpirun starts its processes through Slurm."""
    path = write_study(tmp_path, vary={"ensemble.particles": [50]}, options={"without": ["density"]})
    said = submit(slurm, path, tmp_path / "out", "--ranks", "2")
    summary = tmp_path / "out" / "points" / "particles=50" / "summary.json"
    assert summary.is_file() and json.loads(summary.read_text())["ranks"] == 2, said
