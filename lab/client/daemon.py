"""The client's process: everything put together, from an empty workspace to the end of the mount."""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cvtrace
from cvtrace.lab.client.bundles import Bundles
from cvtrace.lab.client.cache import Cache, Transaction
from cvtrace.lab.client.catalog import Catalogs
from cvtrace.lab.client.content import Hash, Object
from cvtrace.lab.client.counters import Counters
from cvtrace.lab.client.delays import DelayInjector
from cvtrace.lab.client.descriptors import Descriptors
from cvtrace.lab.client.download import Downloader, Failure
from cvtrace.lab.client.fetch import Fetcher
from cvtrace.lab.client.filesystem import Filesystem
from cvtrace.lab.client.job import Job, MemorySink
from cvtrace.lab.client.libfuse import Session
from cvtrace.lab.client.quota import Quota
from cvtrace.lab.client.releases import DEFAULT, RELEASES
from cvtrace.lab.client.repository import Manifest, load_manifest, load_public_keys
from cvtrace.lab.client.syscalls import name_thread
from cvtrace.lab.client.talk_socket import TalkSocket
from cvtrace.lab.client.threads import PROCESS_NAME
from cvtrace.lab.client.xattrs import Xattrs
from cvtrace.lab.errors import LabError


@dataclass(frozen=True)
class Configuration:
    """What a mount is made of."""

    fqrn: str
    mountpoint: str
    url: str
    """Of the repository: `http://host[:port]/cvmfs/<fqrn>`."""
    key: str
    """PEM file with the master public key; several, separated by colons."""
    workspace: str
    quota_bytes: int
    proxy: str = "DIRECT"
    max_retries: int = 1
    backoff_s: tuple[float, float] = (2.0, 10.0)
    timeout_s: int = 10
    like: str = DEFAULT
    """Which release of cvmfs2 is played, see `releases`."""


class Client:
    """One mounted repository."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._release = RELEASES[configuration.like]
        self._bundles: Bundles | None = None
        self.counters = Counters()
        self._injector = DelayInjector()
        self._quota = Quota(configuration.quota_bytes)
        self._cache = Cache(self._quota, Descriptors(counting=self._release.counts_references))
        self._downloader = Downloader(
            configuration.url,
            self.counters,
            self._injector,
            user_agent=f"cvmfs Fuse cvtrace-lab/{cvtrace.__version__}",
            proxy=configuration.proxy,
            max_retries=configuration.max_retries,
            backoff_s=configuration.backoff_s,
            timeout_s=configuration.timeout_s,
        )
        self._fetcher = Fetcher(self._cache, self._downloader, self.counters, self._injector)

    def run(self, ready: Callable[[], None]) -> None:
        """Mount, call `ready`, serve until unmounted; raises LabError when the repository cannot be trusted or mounted."""
        configuration = self._configuration
        self._quota.start()
        self._downloader.start()
        keys = load_public_keys(configuration.key)
        manifest = load_manifest(configuration.fqrn, keys, self._get, self._get_certificate)
        self.counters.set("catalog_revision", manifest.revision)
        filesystem = self._open_repository(manifest)
        session = Session(filesystem.operations(), mount_options())
        talk = TalkSocket(
            configuration.fqrn, manifest.revision, self.counters, self._quota, self._injector, self._release.version
        )
        session.mount(configuration.mountpoint)
        talk.start()
        if self._bundles is not None:
            self._bundles.start()
        try:
            ready()
            session.serve()
        finally:
            session.unmount()
            talk.close()
            if self._bundles is not None:
                self._bundles.stop()
            self._downloader.stop()
            self._quota.stop()

    def _open_repository(self, manifest: Manifest) -> Filesystem:
        try:
            catalogs = Catalogs(manifest.root_hash, self._fetch_catalog, self._fetcher.close)
            xattrs = Xattrs(
                manifest,
                catalogs,
                self.counters,
                self._downloader,
                self._quota,
                self._configuration.key,
                self._release,
            )
            if self._release.prefetches_bundles:
                self._bundles = Bundles(catalogs, self._fetcher)
            return Filesystem(
                catalogs, self._fetcher, self.counters, self._quota, xattrs, self._injector, self._bundles
            )
        except OSError as error:
            raise LabError(f"the catalog of {manifest.fqrn} cannot be had: {error.strerror}") from error

    def _fetch_catalog(self, hash_: Hash, mountpoint: str) -> int:
        description = f"file catalog at {self._configuration.fqrn}:{mountpoint or '/'} ({hash_})"
        return self._fetcher.fetch(Object(hash_, description, suffix="C", pinned=True))

    def _get(self, name: str) -> bytes:
        sink = MemorySink()
        self._download(Job(f"/{name}", sink))
        return sink.data

    def _get_certificate(self, hash_: Hash) -> bytes:
        fd = self._cache.open(hash_)
        if fd is None:
            self.counters.add("cache.n_certificate_misses")
            transaction = Transaction()
            try:
                self._download(Job(f"/data/{hash_.path}X", transaction, hash_, compressed=True))
            except LabError:
                transaction.abort()
                raise
            certificate = Object(hash_, f"certificate for {self._configuration.fqrn}", suffix="X")
            fd = self._cache.commit(transaction, certificate)
        else:
            self.counters.add("cache.n_certificate_hits")
        try:
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            self._cache.descriptors.close(fd)

    def _download(self, job: Job) -> None:
        failure = self._downloader.download(job)
        if failure is not Failure.OK:
            reason = failure.name.lower().replace("_", " ")
            raise LabError(
                f"{self._downloader.base_url}{job.path} cannot be downloaded ({reason}): "
                "is the server up, and are the URL and the proxy right?"
            )


def mount_options() -> list[str]:
    """Return the options of the mount; like the client's, it shows up as `cvmfs2 <mountpoint> fuse ro,...`."""
    options = ["ro", "nosuid", "nodev", "fsname=cvmfs2", "default_permissions"]
    return [*options, "allow_other"] if os.geteuid() == 0 else options


def serve(configuration: Configuration, ready: Callable[[], None]) -> None:
    """Turn this process into the client; returns when unmounted, raises LabError."""
    name_thread(PROCESS_NAME)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    lock = _enter_workspace(configuration)
    try:
        Client(configuration).run(ready)
    except OSError as error:
        logging.exception("the client failed")
        raise LabError(f"the client of {configuration.fqrn} failed in {configuration.workspace}: {error}") from error
    finally:
        os.close(lock)


def _enter_workspace(configuration: Configuration) -> int:
    workspace = Path(configuration.workspace)
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        os.chdir(workspace)
        lock = os.open(f"./lock.{configuration.fqrn}", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LabError(
            f"the cache {workspace} cannot be used: {error.strerror}; choose another with --cache"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LabError(
            f"the cache {workspace} is in use by another mount: unmount that one or choose another --cache"
        ) from error
    return lock


def from_json(values: dict[str, Any]) -> Configuration:
    """Rebuild a configuration from what `dataclasses.asdict` and JSON made of it."""
    return Configuration(**{**values, "backoff_s": tuple(values["backoff_s"])})
