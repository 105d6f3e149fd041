"""A machine with another Linux than ours that runs tests of this checkout: its initramfs in layers, and one boot of it.

Knows no test by name. The machine is QEMU without acceleration, without network and without disks.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import re
import shlex
import struct
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from buckler.lab.guest.image import GuestImage
from buckler.lab.guest.initramfs import (
    Member,
    archive,
    folder,
    link,
    module_order,
    parse_dependencies,
    plain_file,
    program,
)

CHECKOUT = Path(__file__).parents[1]
CACHE = CHECKOUT / "build/kernel-tests"
MODULES = ("tun", "veth", "bridge", "vxlan", "sch_ingress", "cls_bpf", "nft_objref", "nft_meta_bridge")
PROGRAMS = ("/usr/bin/python3.11", "/usr/bin/dash", "/usr/bin/ip", "/usr/sbin/tc", "/usr/sbin/nft", "/usr/sbin/bpftool")
BUSYBOX = "/usr/bin/busybox"
APPLETS = ("cat", "insmod", "mkdir", "mount", "poweroff", "rm", "stty", "sysctl", "umount", "uname")
DLOPENED = ("/usr/lib/x86_64-linux-gnu/libbpf.so.1",)
STDLIB = Path("/usr/lib/python3.11")
STDLIB_LEFT_OUT = ("test", "lib2to3", "idlelib", "tkinter", "distutils", "ensurepip", "pydoc_data", "turtledemo")
DISTRIBUTIONS = ("pytest", "pytest-timeout", "msgspec", "pyroute2", "PyYAML")
PACKAGES = "usr/lib/python3/dist-packages"
MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
INIT = """\
#!/bin/sh
export BUCKLER_TEST_SLOWNESS=20 PATH=/usr/sbin:/usr/bin HOME=/tmp PYTHONPATH=/checkout/src PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
while read -r module; do insmod "/modules/$module" || echo "cannot load $module"; done </modules/order
ip link set lo up
echo "kernel $(uname -r)"
cd /checkout
"""
RUN = """\
{before}
python3.11 -m pytest -p no:cacheprovider --junitxml=/tmp/report.xml {arguments} </dev/null
stty -F /dev/ttyS{line} raw
cat /tmp/report.xml >/dev/ttyS{line}
rm -f /tmp/report.xml
"""


@dataclass(frozen=True)
class Run:
    """One call of pytest, and a line of shell before it."""

    arguments: tuple[str, ...]
    before: str = ":"


@dataclass(frozen=True)
class Boot:
    """What the machine said on its console, and one JUnit report per run: empty when a run never came to its end."""

    console: str
    reports: tuple[str, ...]


def prepare(image: GuestImage) -> tuple[Path, ...]:
    """Build what all machines start from."""
    return layer("system", system(image)), layer("checkout", checkout())


def boot(image: GuestImage, layers: tuple[Path, ...], runs: Iterable[Run], scratch: Path, seconds: float) -> Boot:
    """Start the machine, do the runs (at most three: it has four serial lines), wait until it has powered off."""
    lines = [
        RUN.format(before=run.before, arguments=shlex.join(run.arguments), line=line)
        for line, run in enumerate(runs, start=1)
    ]
    script = "".join((INIT, *lines, "poweroff -f\n"))
    initramfs, console = scratch / "initramfs", scratch / "console"
    with initramfs.open("wb") as file:
        for part in layers:
            file.write(part.read_bytes())
        file.write(archive([program("init", script.encode())]))
    reports = [scratch / f"report{line}.xml" for line, _ in enumerate(lines, start=1)]
    serial = [f"file:{path}" for path in (console, *reports)]
    command = [
        "qemu-system-x86_64", "-accel", "tcg,tb-size=128", "-cpu", "qemu64", "-smp", "1", "-m", "1024", "-nodefaults",
        "-display", "none", "-no-reboot", *(word for each in serial for word in ("-serial", each)),
        "-kernel", str(image.kernel), "-initrd", str(initramfs), "-append", "console=ttyS0 quiet panic=-1 mitigations=off nokaslr rcupdate.rcu_expedited=1",
    ]  # fmt: skip
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=True)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the machine did not end in {seconds} s:\n{_text(console)[-4000:]}") from None
    finally:
        initramfs.unlink()
    return Boot(_text(console), tuple(_text(path) for path in reports))


def layer(name: str, members: list[Member]) -> Path:
    """Return an archive of the members and of the Python code in them, compiled; built once per content."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + importlib.util.MAGIC_NUMBER)
    for member in members:
        digest.update(b"%s\0%o\0%d\0" % (member.path.encode(), member.mode, len(member.content)) + member.content)
    path = CACHE / f"{name}-{digest.hexdigest()[:16]}.cpio"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        content = archive([*_with_folders([*members, *_compiled(members)])])
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_bytes(content)
        for stale in CACHE.glob(f"{name}-*"):
            stale.unlink(missing_ok=True)
        aside.rename(path)
    return path


def system(image: GuestImage) -> list[Member]:
    """Everything but this checkout: the programs as this machine has them, Python, the modules of the other kernel."""
    python = [*_tree(STDLIB, str(STDLIB).lstrip("/"), STDLIB_LEFT_OUT), *_packages()]
    objects = [
        *PROGRAMS,
        *DLOPENED,
        *(f"/{m.path}" for m in python if m.path.endswith(".so") and m.path.startswith("usr/lib/python3.11")),
    ]
    objects += [
        str(metadata.distribution("msgspec").locate_file(file)) for file in _files("msgspec") if file.suffix == ".so"
    ]
    libraries = {*DLOPENED, *_libraries(objects)}
    paths = module_order(MODULES, parse_dependencies((image.modules / "modules.dep").read_text()))
    names = [PurePosixPath(path).name for path in paths]
    return [
        *(folder(path) for path in ("checkout", "dev", "proc", "sys", "tmp")),
        *(link(name, target) for name, target in MERGED.items()),
        *(program(_merged(path), Path(path).read_bytes()) for path in (*PROGRAMS, BUSYBOX, *sorted(libraries))),
        *(link(f"usr/bin/{applet}", "busybox") for applet in APPLETS),
        link("usr/bin/sh", "dash"),
        *python,
        *(plain_file(f"modules/{name}", (image.modules / path).read_bytes()) for name, path in zip(names, paths, strict=True)),
        plain_file("modules/order", "".join(f"{name}\n" for name in names).encode()),
    ]  # fmt: skip


def checkout() -> list[Member]:
    """Buckler, its tests and their settings."""
    settings = plain_file("checkout/pyproject.toml", (CHECKOUT / "pyproject.toml").read_bytes())
    return [
        settings,
        *_tree(CHECKOUT / "src", "checkout/src", ("buckler.egg-info",)),
        *_tree(CHECKOUT / "tests", "checkout/tests"),
    ]


def _tree(root: Path, target: str, left_out: Iterable[str] = ()) -> Iterator[Member]:
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if parts[0] in left_out or parts[0].startswith("config-3.") or "__pycache__" in parts or not path.is_file():
            continue
        yield plain_file(f"{target}/{'/'.join(parts)}", path.read_bytes())


def _packages() -> Iterator[Member]:
    wanted, found = [*DISTRIBUTIONS], dict[str, None]()
    while wanted:
        name = wanted.pop().lower()
        if name in found:
            continue
        found[name] = None
        required = metadata.requires(name) or []
        wanted += [re.split(r"[^\w.-]", text)[0] for text in required if ";" not in text]
    for name in sorted(found):
        for file in _files(name):
            if ".." not in file.parts and "__pycache__" not in file.parts:
                yield plain_file(f"{PACKAGES}/{file}", Path(file.locate()).read_bytes())


def _files(name: str) -> list[metadata.PackagePath]:
    return sorted(metadata.files(name) or [])


def _libraries(objects: Iterable[str]) -> set[str]:
    """Shared libraries that the loader would find for any of the objects."""
    listed = subprocess.run(["ldd", *objects], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(/\S+\.so[^\s:]*) \(", listed))


def _merged(path: str) -> str:
    """Where a file lies that Debian also offers below /bin or /lib."""
    first, _, rest = path.lstrip("/").partition("/")
    return f"{MERGED.get(first, first)}/{rest}"


def _compiled(members: Iterable[Member]) -> Iterator[Member]:
    """Byte code that is never checked against its source: emulated, compiling would take half of the time."""
    tag = importlib.util.cache_from_source("x.py").rpartition("/")[2].removeprefix("x")
    for member in members:
        place, _, name = member.path.rpartition("/")
        if not name.endswith(".py"):
            continue
        try:
            code = compile(member.content, f"/{member.path}", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        head = importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + importlib.util.source_hash(member.content)
        yield plain_file(f"{place}/__pycache__/{name[:-3]}{tag}", head + marshal.dumps(code))


def _with_folders(members: list[Member]) -> Iterator[Member]:
    known = {member.path for member in members}
    parents = {str(parent) for path in known for parent in PurePosixPath(path).parents} - {"."}
    yield from (folder(path) for path in parents - known)
    yield from members


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
