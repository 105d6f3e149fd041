"""The guest image: bytes depend on content alone, modules come in an order that loads."""

import subprocess

import pytest

from buckler.lab.guest.initramfs import (
    archive,
    folder,
    link,
    module_order,
    parse_dependencies,
    plain_file,
    program,
)

MEMBERS = [program("init", b"#!/bin/sh\n"), folder("bin"), link("bin/sh", "busybox"), plain_file("bin/data", b"12345")]


def test_archive_does_not_depend_on_the_order_of_its_members() -> None:
    assert archive(MEMBERS) == archive(list(reversed(MEMBERS)))


def test_cpio_reads_what_we_wrote(tmp_path) -> None:
    subprocess.run(["cpio", "-id", "--quiet"], input=archive(MEMBERS), cwd=tmp_path, check=True)
    assert (tmp_path / "bin/data").read_bytes() == b"12345"
    assert (tmp_path / "bin/sh").readlink().name == "busybox"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755


DEPENDENCIES = parse_dependencies(
    "kernel/a/virtio.ko: kernel/a/virtio_ring.ko\n"
    "kernel/a/virtio_ring.ko:\n"
    "kernel/n/virtio_net.ko: kernel/n/net-failover.ko kernel/a/virtio.ko kernel/a/virtio_ring.ko\n"
    "kernel/n/net-failover.ko:\n"
)


def test_a_module_comes_after_all_it_needs() -> None:
    order = module_order(["virtio_net"], DEPENDENCIES)
    for path, needed in DEPENDENCIES.items():
        assert all(order.index(one) < order.index(path) for one in needed)


def test_a_module_is_found_by_the_name_the_kernel_gives_it() -> None:
    assert module_order(["net_failover"], DEPENDENCIES) == ("kernel/n/net-failover.ko",)


def test_an_unknown_module_is_an_error() -> None:
    with pytest.raises(KeyError):
        module_order(["nothing"], DEPENDENCIES)
