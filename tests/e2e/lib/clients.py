# SPDX-License-Identifier: ISC
"""Real clients, each with state of its own under a directory of the test."""

import json
import os
import shutil
import subprocess
import tempfile

from lib.process import Process

DOCKERD = "/usr/sbin/dockerd"
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'


def run(argv, env=None, timeout=120):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})}, check=False)
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def registries_conf(path, registry, mirror):
    """containers-registries.conf: this registry, through this mirror (None: there is none)."""
    lines = ['unqualified-search-registries = ["docker.io"]']
    if mirror:
        lines += ["[[registry]]", f'prefix = "{registry}"', f'location = "{registry}"',
                  "[[registry.mirror]]", f'location = "{mirror}"', "insecure = true"]
    path.write_text("\n".join(lines) + "\n")
    return path


def through_proxy(address, ca, roots="/nowhere"):
    """The environment of a client that goes by way of the proxy, and trusts this authority
    and none of the system's."""
    return {"HTTPS_PROXY": "http://%s:%d" % address, "SSL_CERT_FILE": str(ca),
            "SSL_CERT_DIR": roots}


def short_directory():
    """podman refuses a runroot of more than 50 characters, and dockerd makes sockets
    deep in its exec-root."""
    return tempfile.mkdtemp(prefix="e2e-", dir="/tmp")


class Skopeo:
    """It checks certificates when `verify` says so."""

    def __init__(self, directory, registry=None, mirror=None, env=None, verify=False):
        self.directory = directory
        self.env = env
        self.verify = verify
        self.options = ["--insecure-policy", "--tmpdir", directory]
        if mirror:
            conf = registries_conf(directory / "skopeo-registries.conf", registry, mirror)
            self.options += ["--registries-conf", conf]
        self.copies = 0

    def copy(self, reference, *options, os="linux", architecture="amd64"):
        """Copy an image to a new directory in the `dir:` form; returns it."""
        self.copies += 1
        out = self.directory / f"skopeo-{self.copies}"
        checks = str(self.verify).lower()
        run(["skopeo", *self.options, "--override-os", os, "--override-arch", architecture, "copy",
             f"--src-tls-verify={checks}", *options, f"docker://{reference}", f"dir:{out}"],
            self.env)
        return out

    def push(self, item, reference, *options):
        """Upload an image, byte for byte; the name has no tag when it is by digest."""
        self.copies += 1
        source = self.directory / f"skopeo-{self.copies}"
        write_dir(source, item)
        checks = str(self.verify).lower()
        run(["skopeo", *self.options, "copy", "--preserve-digests",
             f"--dest-tls-verify={checks}", *options, f"dir:{source}", f"docker://{reference}"],
            self.env)

    def copy_layout(self, layout, reference):
        """The same from an OCI image layout on the disk."""
        self.copies += 1
        out = self.directory / f"skopeo-{self.copies}"
        run(["skopeo", *self.options, "copy", f"oci:{layout}:{reference}", f"dir:{out}"])
        return out


def write_dir(out, image):
    """An image in the form that skopeo's `dir:` reads."""
    out.mkdir()
    (out / "version").write_text("Directory Transport Version: 1.1\n")
    (out / "manifest.json").write_bytes(image.data)
    for blob in image.all_blobs():
        (out / blob.digest.removeprefix("sha256:")).write_bytes(blob.data)


def check_dir(out, image):
    """What skopeo wrote is the image, byte for byte."""
    assert (out / "manifest.json").read_bytes() == image.data
    for blob in image.all_blobs():
        assert (out / blob.digest.removeprefix("sha256:")).read_bytes() == blob.data


class Podman:
    def __init__(self, directory, registry=None, mirror=None, env=None):
        self.env = {"CONTAINERS_REGISTRIES_CONF": str(
            registries_conf(directory / "podman-registries.conf", registry, mirror)),
            **(env or {})}
        policy = directory / "policy.json"
        policy.write_text(POLICY)
        self.policy = policy
        self.run_root = short_directory()
        self.options = ["--root", directory / "podman-root", "--runroot", self.run_root,
                        "--storage-driver", "vfs", "--events-backend", "none",
                        "--cgroup-manager", "cgroupfs", "--tmpdir", directory / "podman-tmp"]

    def pull(self, reference, *options):
        run(["podman", *self.options, "pull", "--quiet", "--signature-policy", self.policy,
             *options, reference], self.env)

    def push(self, reference, to, *options):
        run(["podman", *self.options, "push", "--quiet", "--signature-policy", self.policy,
             "--tls-verify=false", *options, reference, f"docker://{to}"], self.env)

    def digest(self, reference):
        return json.loads(run(["podman", *self.options, "image", "inspect", reference],
                              self.env))[0]["Digest"]

    def close(self):
        shutil.rmtree(self.run_root)


class Containerd(Process):
    """containerd and ctr; no CRI. It is ctr that asks registries, in its `env`."""

    def __init__(self, directory, env=None):
        super().__init__("containerd", directory)
        self.env = env
        self.socket = directory / "containerd.sock"
        self.hosts_dir = directory / "certs.d"
        config = directory / "containerd.toml"
        config.write_text(
            f'version = 2\nroot = "{directory}/containerd-root"\n'
            f'state = "{directory}/containerd-state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt",\n'
            '  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.aufs",\n'
            '  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]\n'
            f'[grpc]\naddress = "{self.socket}"\n'
            f'[ttrpc]\naddress = "{directory}/containerd.ttrpc"\n')
        self.spawn([shutil.which("containerd"), "--config", config])
        self.wait_accepting(self.socket)

    def use(self, registry, url, ca=None):
        """hosts.toml: pull what is named `registry` from this URL, and nowhere else."""
        folder = self.hosts_dir / registry
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text(
            f'server = "{url}"\n[host."{url}"]\ncapabilities = ["pull", "resolve", "push"]\n'
            + (f'ca = "{ca}"\n' if ca else ""))

    def ctr(self, *arguments, namespace="e2e"):
        return run(["ctr", "--address", self.socket, "--namespace", namespace, *arguments],
                   self.env)

    def pull(self, reference, platform="linux/amd64", namespace="e2e"):
        """With a platform of "all", the images of them all."""
        which = ["--all-platforms"] if platform == "all" else ["--platform", platform]
        self.ctr("images", "pull", "--hosts-dir", self.hosts_dir, "--snapshotter", "native",
                 *which, reference, namespace=namespace)

    def fetch(self, reference, *options, namespace="e2e"):
        """The content alone, unpacked by nobody: all there is of an image of another system."""
        self.ctr("content", "fetch", "--hosts-dir", self.hosts_dir, *options, reference,
                 namespace=namespace)

    def push(self, reference, *options, namespace="e2e"):
        self.ctr("images", "push", "--hosts-dir", self.hosts_dir, *options, reference,
                 namespace=namespace)

    def content(self, digest, namespace="e2e"):
        """The bytes that it holds."""
        return subprocess.run(["ctr", "--address", str(self.socket), "--namespace", namespace,
                               "content", "get", digest], capture_output=True, check=True,
                              timeout=60).stdout

    def digest(self, reference, namespace="e2e"):
        for line in self.ctr("images", "list", namespace=namespace).splitlines():
            words = line.split()
            if words[0] == reference:
                return words[2]
        return None

    def close(self):
        self.stop()


class Dockerd(Process):
    """A real Docker engine whose registry-mirrors name one URL, or none."""

    def __init__(self, directory, containerd, mirror=None, env=None, settings=None):
        super().__init__("dockerd", directory)
        self.socket = directory / "docker.sock"
        self.home = directory / "docker-home"
        self.exec_root = short_directory()
        config = directory / "daemon.json"
        config.write_text(json.dumps({
            "data-root": f"{directory}/docker-data", "exec-root": self.exec_root,
            "pidfile": f"{directory}/docker.pid", "hosts": [f"unix://{self.socket}"],
            "containerd": str(containerd.socket), "storage-driver": "vfs",
            "iptables": False, "ip6tables": False, "bridge": "none",
            "registry-mirrors": [mirror] if mirror else [], **(settings or {})}))
        self.spawn([DOCKERD, "--config-file", config], env)
        self.wait_accepting(self.socket, 60)

    def docker(self, *arguments):
        return run(["/usr/bin/docker", "--host", f"unix://{self.socket}",
                    "--config", self.home, *arguments])

    def pull(self, reference):
        self.docker("pull", "--quiet", reference)

    def push(self, reference):
        self.docker("push", reference)

    def image_id(self, reference):
        return self.docker("image", "inspect", "--format", "{{.Id}}", reference).strip()

    def close(self):
        self.stop(timeout=60)
        shutil.rmtree(self.exec_root, ignore_errors=True)


class Buildah:
    def __init__(self, directory):
        self.directory = directory
        self.policy = directory / "buildah-policy.json"
        self.policy.write_text(POLICY)
        self.run_root = short_directory()
        self.options = ["--root", directory / "buildah-root", "--runroot", self.run_root,
                        "--storage-driver", "vfs"]

    def build(self, base, reference):
        """An image of one file on top of a base, which is pulled."""
        context = self.directory / "buildah-context"
        context.mkdir(exist_ok=True)
        (context / "file").write_text(reference)
        (context / "Containerfile").write_text(f"FROM {base}\nCOPY file /file\n")
        run(["buildah", *self.options, "build", "--signature-policy", self.policy,
             "--tls-verify=false", "--isolation", "chroot", "--tag", reference, context])

    def push(self, reference):
        run(["buildah", *self.options, "push", "--signature-policy", self.policy,
             "--tls-verify=false", reference, f"docker://{reference}"])

    def close(self):
        shutil.rmtree(self.run_root)
