"""Builds what lab guests boot, once per content of its sources: Debian's cloud kernel and a small initramfs."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

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

KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("virtio_pci", "virtio_net", "virtio_console", "8021q")
SOURCES = Path(__file__).parent
BUSYBOX = Path("/bin/busybox")
Progress = Callable[[str], None]


class ImageFailed(Exception):
    """The guest image could not be made; the message says what was tried."""


class GuestImage(msgspec.Struct, frozen=True):
    """What a domain boots; the folder of all modules of that kernel; the probe, for stations that are no guests."""

    kernel: Path
    initramfs: Path
    modules: Path
    probe: Path


def cache_folder() -> Path:
    """Say where built things are kept: ``build/lab`` of a checkout, else the system's cache."""
    if named := os.environ.get("BUCKLER_LAB_CACHE"):
        return Path(named)
    checkout = SOURCES.parents[3]
    return checkout / "build/lab" if (checkout / "pyproject.toml").exists() else Path("/var/cache/buckler-lab")


def image(progress: Progress, cache: Path | None = None) -> GuestImage:
    """Return the image, building only what is missing or stale. Raises ImageFailed."""
    cache = cache or cache_folder()
    kernel = _kernel(cache, progress)
    modules = next((kernel / "lib/modules").iterdir())
    digest = _sources_digest(modules)
    initramfs, probe = cache / f"initramfs-{digest}.gz", cache / f"probe-{digest}"
    if not (initramfs.exists() and probe.exists()):
        progress("building the guests' initramfs")
        compiled = _compile_probe()
        content = gzip.compress(archive(_members(modules, compiled)), compresslevel=6, mtime=0)
        for stale in [*cache.glob("initramfs-*"), *cache.glob("probe-*")]:
            stale.unlink(missing_ok=True)
        _keep(probe, compiled)
        _keep(initramfs, content)
    return GuestImage(next((kernel / "boot").glob("vmlinuz-*")), initramfs, modules, probe)


def _keep(path: Path, content: bytes) -> None:
    """Write a file in one step: another process may be about to read it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.chmod(0o755)
    aside.rename(path)


def _kernel(cache: Path, progress: Progress) -> Path:
    """Unpack Debian's kernel into the cache. It is never installed: the machine's own boot files are left alone."""
    target = cache / "kernel"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        aside = Path(scratch)
        package = _kernel_package()
        progress(f"fetching the guests' kernel: {package}")
        _run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package, cwd=aside)
        _run("dpkg-deb", "-x", str(next(aside.glob("*.deb"))), str(aside / "kernel"))
        version = next((aside / "kernel/lib/modules").iterdir()).name
        _run("depmod", "-b", str(aside / "kernel"), version)
        shutil.rmtree(aside / "kernel/usr", ignore_errors=True)
        (aside / "kernel").rename(target)
    return target


def _kernel_package() -> str:
    for attempt in ("as listed", "after apt-get update"):
        listed = subprocess.run(
            ["apt-cache", "depends", "--important", KERNEL_PACKAGE], capture_output=True, text=True, check=False
        ).stdout
        names = [line.split()[-1] for line in listed.splitlines() if "linux-image-" in line and "Depends:" in line]
        if names:
            return names[0]
        if attempt == "as listed":
            _run("apt-get", "-q", "update")
    raise ImageFailed(f"apt knows no package {KERNEL_PACKAGE}")


def _sources_digest(modules: Path) -> str:
    digest = hashlib.sha256(modules.name.encode())
    for path in [*sorted((SOURCES / "probe").iterdir()), SOURCES / "init.sh", SOURCES / "image.py", BUSYBOX]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _members(modules: Path, probe: bytes) -> list[Member]:
    dependencies = parse_dependencies((modules / "modules.dep").read_text())
    paths = module_order(MODULES, dependencies)
    names = [path.rpartition("/")[2] for path in paths]
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return [
        *(folder(path) for path in ("bin", "dev", "etc", "modules", "proc", "sys", "tmp")),
        program("init", (SOURCES / "init.sh").read_bytes()),
        program("bin/busybox", BUSYBOX.read_bytes()),
        program("bin/probe", probe),
        *(link(f"bin/{applet}", "busybox") for applet in applets if applet != "busybox"),
        *(
            plain_file(f"modules/{name}", (modules / path).read_bytes())
            for name, path in zip(names, paths, strict=True)
        ),
        plain_file("modules/order", "".join(f"{name}\n" for name in names).encode()),
    ]


def _compile_probe() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "probe"
        sources = sorted(str(path) for path in (SOURCES / "probe").glob("*.c"))
        flags = ("-static", "-O2", "-s", "-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none")
        _run("gcc", *flags, "-o", str(target), *sources)
        return target.read_bytes()


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode != 0:
        raise ImageFailed(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
