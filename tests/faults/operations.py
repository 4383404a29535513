# SPDX-License-Identifier: ISC
"""What is done while calls fail: each operation is begun, may be broken anywhere, and must
succeed when it is done again."""

import json
import signal
import tarfile

import invariants
from lib import image, rawhttp
from lib.bundle import tar_bytes, wait_recorded
from lib.image import ACCEPT, OCI, digest_of, noise
from lib.paths import HUB, blob, manifest
from lib.pusher import Pusher, Session
from lib.wait import until

REPOSITORY = "library/app"
LOCAL = "team/app"


def picture(seed):
    """An image of three small blobs."""
    return image.image(seed, (90_000, 700))


class Operation:
    """One row of the torture. `subject` is what prepare() made for this round."""

    name = None
    ends = signal.SIGTERM  # how the daemon is ended after it, still broken

    def __init__(self, rig):
        self.rig = rig

    def prepare(self, n):
        """What is needed, made while all is well."""
        raise NotImplementedError

    def run(self, subject):
        """While calls fail: check that every answer is honest."""
        raise NotImplementedError

    def again(self, subject):
        """All is well: it must succeed."""
        raise NotImplementedError

    def after_cut(self, subject):
        """The same for another daemon than began it, which has its disk."""
        self.again(subject)


class Pull(Operation):
    """A cold pull: the manifest by its tag, then the blobs."""

    name = "pull"

    def prepare(self, n):
        return self.rig.hub.hold(picture(f"pull-{n}"), REPOSITORY, f"t{n}"), f"t{n}"

    def paths(self, subject):
        item, tag = subject
        return [(manifest(REPOSITORY, tag), item.data),
                *((blob(REPOSITORY, b.digest), b.data) for b in item.blobs)]

    def run(self, subject):
        for path, data in self.paths(subject):
            invariants.check_answer(self.rig.ask(path, fields=ACCEPT), data)
        self.rig.settle()

    def again(self, subject):
        for path, data in self.paths(subject):
            got = self.rig.get(path, fields=ACCEPT)
            assert got.status == 200 and got.complete and got.body == data, (path, got)
        self.rig.settle()


class Tag(Pull):
    """A manifest by its tag, which the upstream has moved since it was held."""

    name = "tag"

    def prepare(self, n):
        old = self.rig.hub.hold(picture(f"old-{n}"), REPOSITORY, f"m{n}")
        assert self.rig.get(manifest(REPOSITORY, f"m{n}"), fields=ACCEPT).body == old.data
        return self.rig.hub.hold(picture(f"new-{n}"), REPOSITORY, f"m{n}"), f"m{n}", old

    def paths(self, subject):
        item, tag, _ = subject
        return [(manifest(REPOSITORY, tag), item.data)]

    def run(self, subject):
        """The older one may be served while the newer one cannot be stored."""
        item, tag, old = subject
        got = self.rig.ask(manifest(REPOSITORY, tag), fields=ACCEPT)
        if got is None or got.body != old.data:
            invariants.check_answer(got, item.data)
        self.rig.settle()


class Push(Operation):
    """A push as Docker does it: POST, PATCH, PUT of each blob, then the manifest."""

    name = "push"

    def prepare(self, n):
        return picture(f"push-{n}"), f"p{n}"

    def call(self, function, *arguments):
        """An answer that is expected or honest; None for no answer."""
        try:
            got = function(*arguments)
        except (OSError, rawhttp.Closed) as why:
            assert not isinstance(why, TimeoutError), "no answer"
            return None
        assert got.status in (201, 202, 204, *invariants.HONEST), got
        return got

    def push_blob(self, p, each):
        got = self.call(p.post)
        if got is None or got.status != 202:
            return
        s = Session(p, got)
        got = self.call(s.patch, each.data)
        if got is None or got.status != 202:
            return
        self.finish(p, s, each)

    def finish(self, p, session, each):
        got = self.call(session.put, each.digest)
        if got is not None and got.status == 201:
            self.rig.promise(p.path(f"blobs/{each.digest}"), each.data)

    def push_manifest(self, p, item, tag):
        """Blobs that could not be pushed make it 400 or 404: that is honest too."""
        try:
            got = p.put_manifest(tag, item.data, item.media_type)
        except (OSError, rawhttp.Closed):
            return
        assert got.status in (201, 400, 404, *invariants.HONEST), got
        if got.status == 201:
            for reference in (tag, item.digest):
                self.rig.promise(p.path(f"manifests/{reference}"), item.data)

    def run(self, subject):
        item, tag = subject
        p = Pusher(self.rig.address, LOCAL)
        for each in item.blobs:
            self.push_blob(p, each)
        self.push_manifest(p, item, tag)

    def again(self, subject):
        item, tag = subject
        p = Pusher(self.rig.address, LOCAL)
        p.push(item, tag)
        assert p.manifest(tag, fields=ACCEPT).body == item.data


class Resume(Push):
    """The second half of an upload whose first half is there."""

    name = "resume"

    def prepare(self, n):
        data = noise(120_000, f"resume-{n}")
        s = Pusher(self.rig.address, LOCAL).begin()
        assert s.patch(data[:50_000], 0).status == 202
        return image.Blob(OCI["layer"], data), s

    def run(self, subject):
        each, s = subject
        p = s.pusher
        got = self.call(s.status)
        if got is None or got.status != 204:
            return
        got = self.call(s.patch, each.data[50_000:], 50_000)
        if got is not None and got.status == 202:
            self.finish(p, s, each)

    def again(self, subject):
        """The session goes on or is gone; a new one succeeds in any case."""
        each, s = subject
        got = s.status()
        assert got.status in (204, 404), got
        if got.status == 204:
            s.cancel()
        assert s.pusher.push_blob(each.data) == each.digest

    def after_cut(self, subject):
        each, _ = subject
        Pusher(self.rig.address, LOCAL).push_blob(each.data)


class Delete(Push):
    """A pushed image is deleted by its digest."""

    name = "delete"

    def prepare(self, n):
        return Pusher(self.rig.address, LOCAL).push(picture(f"delete-{n}"), f"d{n}"), f"d{n}"

    def run(self, subject):
        item, tag = subject
        p = Pusher(self.rig.address, LOCAL)
        got = self.call(p.remove, f"manifests/{item.digest}")
        if got is not None and got.status == 202:
            for reference in (tag, item.digest):
                self.rig.promise(p.path(f"manifests/{reference}"), None)

    def again(self, subject):
        item, _ = subject
        p = Pusher(self.rig.address, LOCAL)
        assert p.remove(f"manifests/{item.digest}").status in (202, 404)
        self.rig.promise(p.path(f"manifests/{item.digest}"), None)


class Start(Operation):
    """The daemon starts over a store that holds something. What ends it ends it with a
    sentence, and the next start is well."""

    name = "start"

    def prepare(self, n):
        item = picture("start")
        Pusher(self.rig.address, LOCAL).push(item, "start")
        self.rig.promise(f"/v2/{LOCAL}/manifests/start", item.data)
        self.rig.end(signal.SIGTERM if n % 2 else signal.SIGKILL)
        return item

    def run(self, subject):
        said = len(self.rig.stderr_path.read_text(errors="replace"))
        self.rig.launch()
        until("it serves or ends",
                         lambda: self.rig.child.poll() is not None or self.rig.healthy())
        if not self.rig.running() and self.rig.child.returncode >= 0:
            assert len(self.rig.stderr_path.read_text(errors="replace")) > said, "no word of why"

    def again(self, subject):
        assert Pusher(self.rig.address, LOCAL).manifest("start", fields=ACCEPT).body == subject.data


class Import(Operation):
    """An archive is imported by the command, beside the daemon. Both are under the shim."""

    name = "import"

    def prepare(self, n):
        item = picture(f"import-{n}")
        path = self.rig.bundles / f"import-{n}.tar"
        entry = {**item.descriptor(),
                 "annotations": {"org.opencontainers.image.ref.name": f"{HUB}/library/i:{n}"}}
        entries = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                   ("index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())]
        entries += [(f"blobs/{b.digest.replace(':', '/')}", b.data) for b in (item, *item.blobs)]
        path.write_bytes(tar_bytes(entries))
        return item, path

    def run(self, subject):
        item, path = subject
        if self.rig.broken_command("import", path) == 0:
            for each in (item, *item.blobs):
                self.rig.promise(each.digest, each.data)

    def again(self, subject):
        """An image is in the index whole or not at all; another import makes it whole."""
        item, path = subject
        wanted = {b.digest for b in (item, *item.blobs)}
        have = invariants.recorded(self.rig)
        assert item.digest not in have or wanted <= have
        done = self.rig.command("import", path)
        assert done.returncode == 0, done
        assert wanted <= invariants.recorded(self.rig)


class Export(Operation):
    """An image is exported by the command. A file that is there is whole."""

    name = "export"

    def prepare(self, n):
        item = self.rig.hub.hold(picture("export"), REPOSITORY, "export")
        Pull(self.rig).again((item, "export"))
        wait_recorded(self.rig, item)
        return item, self.rig.bundles / f"export-{n}.tar"

    def run(self, subject):
        _, path = subject
        status = self.rig.broken_command("export", "-o", path, f"{HUB}/{REPOSITORY}:export")
        assert path.exists() == (status == 0), (status, path)

    def again(self, subject):
        item, path = subject
        if not path.exists():
            done = self.rig.command("export", "-o", path, f"{HUB}/{REPOSITORY}:export")
            assert done.returncode == 0, done
        with tarfile.open(path) as tar:
            found = {m.name.removeprefix("blobs/").replace("/", ":"): tar.extractfile(m).read()
                     for m in tar if m.name.startswith("blobs/") and m.isfile()}
        assert {b.digest for b in (item, *item.blobs)} <= set(found)
        assert all(digest_of(data, d.split(":")[0]) == d for d, data in found.items())
        path.unlink()
        assert not list(path.parent.glob(f"*{path.name}*")), "something is left beside it"


ALL = (Pull, Tag, Push, Resume, Delete, Start, Import, Export)
