"""A machine with Debian's 6.1 cloud kernel that runs packet tests: builds its initramfs and boots it under QEMU (TCG)."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = [
    "tun",
    "veth",
    "llc",
    "stp",
    "bridge",
    "udp_tunnel",
    "ip6_udp_tunnel",
    "vxlan",
    "sch_ingress",
    "cls_bpf",
    "nfnetlink",
    "libcrc32c",
    "nf_tables",
    "nft_meta_bridge",
]
PROGRAMS = ("/usr/bin/busybox", "/usr/bin/python3.11", "/usr/sbin/bpftool", "/usr/bin/ip", "/usr/sbin/sysctl",
            "/usr/sbin/nft", "/usr/bin/mount", "/usr/bin/umount", "/usr/bin/dash")  # fmt: skip
PACKAGES = [
    "msgspec",
    "pytest",
    "_pytest",
    "pluggy",
    "iniconfig",
    "packaging",
    "pyroute2",
    "pytest_timeout.py",
    "py.py",
    "pygments",
]
INIT = """#!/bin/busybox sh
export PATH=/usr/bin:/usr/sbin:/bin:/sbin PYTHONPATH=/src:/packages HOME=/root PYTHONDONTWRITEBYTECODE=1
/bin/busybox mkdir -p /proc /sys /dev /run /tmp
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /tmp
for m in MODULES; do /bin/busybox insmod /modules/$m.ko 2>/dev/null; done
/bin/busybox mkdir -p /dev/net; [ -e /dev/net/tun ] || /bin/busybox mknod /dev/net/tun c 10 200
echo "kernel $(/bin/busybox uname -r)"
cd /work && python3.11 -m pytest -q -p no:cacheprovider TESTS 2>&1
echo "exit $?"
/bin/busybox poweroff -f
"""


def find_libraries(files: list[str]) -> set[str]:
    listed = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(/\S+\.so[^\s:]*) \(", listed))


def copy(source: Path, root: Path) -> None:
    target = root / str(source).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def build_initramfs(kernel: Path, folder: Path, tests: list[str]) -> Path:
    """``kernel`` is an unpacked linux-image package."""
    root = folder / "root"
    for program in PROGRAMS:
        copy(Path(program), root)
    for name in ("sh", "dash"):
        (root / "bin").mkdir(exist_ok=True)
        shutil.copy2("/usr/bin/dash", root / "bin" / name)
    shutil.copy2("/usr/bin/busybox", root / "bin" / "busybox")
    skipped = shutil.ignore_patterns(
        "__pycache__", "test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3", "config-3*"
    )
    shutil.copytree(
        "/usr/lib/python3.11",
        root / "usr/lib/python3.11",
        ignore=skipped,
        symlinks=False,
        ignore_dangling_symlinks=True,
    )
    for package in PACKAGES:
        source = Path(sys.prefix) / "lib/python3.11/site-packages" / package
        if source.is_dir():
            shutil.copytree(source, root / "packages" / package, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy_file(source, root / "packages" / package)
    shutil.copytree(ROOT / "src/buckler", root / "src/buckler", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        ROOT / "tests/component", root / "work/tests/component", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / "bpf", root / "work/bpf")
    for name in ("__init__.py", "packets.py"):
        copy_file(ROOT / "tests" / name, root / "work/tests" / name)
    copy_file(ROOT / "pyproject.toml", root / "work/pyproject.toml")
    dynamic = [*PROGRAMS, *map(str, Path("/usr/lib/python3.11/lib-dynload").glob("*.so")),
               *map(str, (root / "packages").rglob("*.so")), "/usr/lib/x86_64-linux-gnu/libbpf.so.1"]  # fmt: skip
    for library in {*find_libraries(dynamic), "/usr/lib/x86_64-linux-gnu/libbpf.so.1"}:
        copy(Path(library), root)
    for module in MODULES:
        for found in (kernel / "lib").rglob(module.replace("_", "[_-]") + ".ko"):
            copy_file(found, root / "modules" / f"{module}.ko")
    init = root / "init"
    init.write_text(INIT.replace("MODULES", " ".join(MODULES)).replace("TESTS", " ".join(tests)))
    init.chmod(0o755)
    archive = folder / "initramfs.gz"
    names = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names, capture_output=True, check=True
    )
    archive.write_bytes(gzip.compress(packed.stdout, 1))
    return archive


def copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def boot(kernel: Path, initramfs: Path, seconds: float) -> str:
    """Boot, run, power off; return what the console said."""
    (image,) = sorted((kernel / "boot").glob("vmlinuz-*"))[-1:]
    done = subprocess.run(
        ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1500", "-nographic", "-no-reboot", "-nic", "none",
         "-kernel", image, "-initrd", initramfs, "-append", "console=ttyS0 quiet panic=-1 mitigations=off"],
        capture_output=True, text=True, timeout=seconds, check=False, errors="replace", env={**os.environ, "TMPDIR": "/tmp"},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout
