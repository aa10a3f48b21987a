"""S3 servers on loopback: moto, which is a simulation and always there, and Ceph's RADOS gateway, which is a real one.

Debian has it (`apt-get install --no-install-recommends radosgw ceph-mon ceph-osd`, 61 MB). One monitor, one OSD that
keeps everything in memory and one gateway answer after about ten seconds with 130 MB. CI does not install it.
"""

import os
import shlex
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.fakes.ports import free_port

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "us-east-1"}
CEPH_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
CEPH = """
[global]
fsid = {fsid}
mon_host = v1:127.0.0.1:{mon_port}/0
ms_bind_msgr2 = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
keyring = /dev/null
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 2147483648
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
mon_data = {folder}/mon
osd_data = {folder}/osd
rgw_data = {folder}/rgw
run_dir = {folder}
crash_dir = {folder}
admin_socket = {folder}/$name.asok
pid_file = {folder}/$name.pid
log_file = {folder}/$name.log
mon_cluster_log_file = {folder}/cluster.log
rgw_frontends = beast endpoint=127.0.0.1:{port}
"""


@contextmanager
def moto_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def ceph_is_installed() -> bool:
    return all(shutil.which(program) for program in CEPH_PROGRAMS)


@contextmanager
def ceph_server(folder: Path) -> Iterator[str]:
    """The address of a RADOS gateway whose cluster lies in an empty folder with a short path."""
    port, mon_port, fsid, osd = free_port(), free_port(), uuid.uuid4(), str(uuid.uuid4())
    conf = folder / "ceph.conf"
    conf.write_text(CEPH.format(fsid=fsid, mon_port=mon_port, port=port, folder=folder))
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()

    def ceph(*command: str) -> None:
        environment = {**os.environ, "CEPH_CONF": str(conf), "CEPH_ARGS": f"--conf {conf}"}
        # now and then a client's first command leaves before it knows the cluster ("wrong fsid")
        for _ in range(5):
            with (folder / "output").open("ab") as output:
                done = subprocess.run(command, env=environment, stdout=output, stderr=output, timeout=60)
            if done.returncode == 0:
                return
        raise RuntimeError(f"{shlex.join(command)} failed:\n{(folder / 'output').read_text()[-2000:]}")

    try:
        monitor = ("--addv", "a", f"[v1:127.0.0.1:{mon_port}]")
        ceph("monmaptool", "--create", "--fsid", str(fsid), *monitor, str(folder / "monmap"))
        ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"))
        ceph("ceph-mon", "-i", "a")
        ceph("ceph", "osd", "new", osd)
        ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        ceph("ceph-osd", "-i", "0")
        ceph("radosgw", "-n", "client.rgw")
        _wait(f"http://127.0.0.1:{port}/")
        keys = ("--access-key", CREDENTIALS["AWS_ACCESS_KEY_ID"], "--secret-key", CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
        ceph("radosgw-admin", "user", "create", "--uid", "test", "--display-name", "test", *keys)
        yield f"http://127.0.0.1:{port}"
    finally:
        for pid in folder.glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(pid.read_text()), signal.SIGKILL)


def _wait(url: str, limit_seconds: float = 60) -> None:
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise TimeoutError(f"no S3 server answers at {url}")
