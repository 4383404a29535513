# SPDX-License-Identifier: ISC
"""Real clients say who they are, or do not, on one and the same listener."""

import pytest

from lib import image
from lib.access import ALICE, Client, PasswordFile, rule
from lib.clients import Buildah, Containerd, Dockerd, Podman, Skopeo, check_dir, run
from lib.image import ACCEPT, DOCKER
from lib.process import free_port
from lib.tokens import SigningTokenServer, Witness, basic
from lib.wait import until

pytestmark = pytest.mark.clients

PASSWORD = "correct-horse:battery,staple"
CREDENTIALS = f"alice:{PASSWORD}"


def host(address):
    return "%s:%d" % address


def url(address):
    return f"http://{host(address)}"


@pytest.fixture
def witness(closing, tmp_path):
    watching = closing(Witness(tmp_path))
    watching.password("alice", PASSWORD)
    return watching


@pytest.fixture
def users(tmp_path):
    return PasswordFile(tmp_path / "htpasswd", alice=PASSWORD, bob=ALICE)


@pytest.fixture
def team(cachalot, users, witness):
    """One listener: team/ is for everybody to pull and for alice to push to; secret/ is
    alice's alone."""
    daemon = cachalot({}, {
        **users.options, **rule("everybody", repositories="team/**"),
        **rule("alice", users="alice", repositories="team/** secret/**", allow="pull push")})
    daemon.name_of = lambda rest: f"{host(daemon.address)}/{rest}"
    return daemon


def seed(daemon, seed_text, repository, types=image.OCI):
    """An image that alice has pushed, tag 1."""
    item = image.image(seed_text, types=types)
    alice = Client(daemon.address, user=("alice", PASSWORD))
    for each in item.all_blobs():
        path = f"/v2/{repository}/blobs/uploads/?digest={each.digest}"
        assert alice.call("POST", path, each.data).status == 201
    got = alice.call("PUT", f"/v2/{repository}/manifests/1", item.data,
                     [("Content-Type", item.media_type)])
    assert got.status == 201, got
    return item


def pushed(daemon, repository, tag="1"):
    got = Client(daemon.address, user=("alice", PASSWORD)).get(
        f"/v2/{repository}/manifests/{tag}", ACCEPT)
    return got.status == 200


def denied():
    """The client fails, for want of a right or of a login: not for any other reason, such as
    that it knows no answer to a challenge ("no basic auth credentials")."""
    return pytest.raises(AssertionError, match="(?i)unauthorized|denied|authentication required|"
                         "invalid username/password|needs a login|40[13]")


# --- Docker ---

@pytest.fixture
def engine(closing, tmp_path):
    """engine(): a Docker engine with nothing in store, whose user has no login."""
    made = []

    def make(**settings):
        directory = tmp_path / f"engine-{len(made)}"
        directory.mkdir()
        containerd = closing(Containerd(directory))
        made.append(closing(Dockerd(directory, containerd, settings=settings)))
        return made[-1]

    return make


def login(docker, daemon, name="alice", password=PASSWORD):
    return docker.docker("login", "--username", name, "--password", password,
                         host(daemon.address))


def test_docker(team, engine):
    """A machine without a login pulls what is for everybody, and cannot push, nor pull what is
    not. Its user logs in (not with a wrong password) and can both; he logs out and is where
    he was."""
    item = seed(team, "docker", "team/base", DOCKER)
    secret = seed(team, "secret", "secret/base", DOCKER)
    docker = engine()
    docker.pull(team.name_of("team/base:1"))
    assert docker.image_id(team.name_of("team/base:1")) == item.blobs[0].digest
    docker.docker("tag", team.name_of("team/base:1"), team.name_of("team/app:1"))
    with denied():
        docker.push(team.name_of("team/app:1"))
    with denied():
        docker.pull(team.name_of("secret/base:1"))
    assert not pushed(team, "team/app")

    with denied():
        login(docker, team, password="wrong")
    with denied():
        login(docker, team, name="eve")
    assert "Login Succeeded" in login(docker, team)
    docker.push(team.name_of("team/app:1"))
    docker.pull(team.name_of("secret/base:1"))
    assert docker.image_id(team.name_of("secret/base:1")) == secret.blobs[0].digest

    docker.docker("logout", host(team.address))
    docker.docker("tag", team.name_of("team/base:1"), team.name_of("team/app:2"))
    with denied():
        docker.push(team.name_of("team/app:2"))
    clean = engine()
    clean.pull(team.name_of("team/app:1"))
    assert clean.image_id(team.name_of("team/app:1")) == item.blobs[0].digest


def test_docker_of_another_user(team, engine):
    """Who may pull, but not push, is told so, also with a login that is right."""
    seed(team, "other", "team/base", DOCKER)
    docker = engine()
    login(docker, team, "bob", ALICE)
    docker.pull(team.name_of("team/base:1"))
    docker.docker("tag", team.name_of("team/base:1"), team.name_of("team/app:1"))
    with denied():
        docker.push(team.name_of("team/app:1"))
    with denied():
        docker.pull(team.name_of("secret/base:1"))


def test_docker_mounts(team, engine):
    """A push from one repository to another: layers are mounted, or known, not sent."""
    seed(team, "mount", "secret/base", DOCKER)
    docker = engine()
    login(docker, team)
    docker.pull(team.name_of("secret/base:1"))
    before = team.metric("upload_bytes_total")
    docker.docker("tag", team.name_of("secret/base:1"), team.name_of("team/copy:1"))
    docker.push(team.name_of("team/copy:1"))
    assert pushed(team, "team/copy")
    # Of more than 10 MB alone does Docker ask where else they are; of these one mount each.
    assert team.metric("upload_bytes_total") - before < 250_000


def test_docker_and_an_upstream(registry, cachalot, users, engine):
    """A public upstream's images, by the same listener and without a login."""
    item = registry.push(image.image("public", types=DOCKER), "windows/tools", "1")
    daemon = cachalot({"mcr.microsoft.com": registry.url},
                      {**users.options, **rule("team", users="alice", allow="pull push")})
    docker = engine()
    name = f"{host(daemon.address)}/mcr.microsoft.com/windows/tools:1"
    docker.pull(name)
    assert docker.image_id(name) == item.blobs[0].digest
    login(docker, daemon)
    docker.docker("tag", name, f"{host(daemon.address)}/team/tools:1")
    docker.push(f"{host(daemon.address)}/team/tools:1")
    assert pushed(daemon, "team/tools")
    assert PASSWORD not in daemon.stderr_path.read_text()


# --- skopeo, podman, buildah ---

def test_skopeo(team, tmp_path):
    """skopeo pushes with --dest-creds and pulls without any; --src-creds opens what is
    secret."""
    item = image.image("skopeo")
    skopeo = Skopeo(tmp_path)
    for wrong in ((), ("--dest-creds", "alice:wrong"), ("--dest-creds", f"eve:{PASSWORD}")):
        with denied():
            skopeo.push(item, team.name_of("team/app:1"), *wrong)
    skopeo.push(item, team.name_of("team/app:1"), "--dest-creds", CREDENTIALS)
    check_dir(skopeo.copy(team.name_of("team/app:1")), item)
    skopeo.push(item, team.name_of("secret/app:1"), "--dest-creds", CREDENTIALS)
    with denied():
        skopeo.copy(team.name_of("secret/app:1"))
    check_dir(skopeo.copy(team.name_of("secret/app:1"), "--src-creds", CREDENTIALS), item)


def test_skopeo_over_tls(cachalot, users, witness, tmp_path):
    """The same by a listener that speaks TLS: the token too is got by TLS alone."""
    address = ("127.0.0.1", free_port())
    daemon = cachalot({}, {
        **users.options, **rule("everybody"), **rule("team", users="alice", allow="push"),
        "listener secure": {"role": "registry", "address": host(address), "tls": "yes",
                            "names": "127.0.0.1"}})
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes(daemon.get("/-/setup/ca.crt").body)
    skopeo = Skopeo(tmp_path, verify=True)
    item = image.image("tls")
    with denied():
        skopeo.push(item, f"{host(address)}/team/app:1", "--dest-cert-dir", trusted)
    skopeo.push(item, f"{host(address)}/team/app:1", "--dest-cert-dir", trusted, "--dest-creds",
                CREDENTIALS)
    check_dir(skopeo.copy(f"{host(address)}/team/app:1", "--src-cert-dir", trusted), item)


def test_podman(team, closing, tmp_path):
    """podman pulls without a login, is refused a push, and pushes with one."""
    item = seed(team, "podman", "team/base")
    podman = closing(Podman(tmp_path))
    podman.pull(team.name_of("team/base:1"), "--tls-verify=false")
    assert podman.digest(team.name_of("team/base:1")) == item.digest
    with denied():
        podman.push(team.name_of("team/base:1"), team.name_of("team/app:1"))
    with denied():
        podman.push(team.name_of("team/base:1"), team.name_of("team/app:1"), "--creds",
                    "alice:wrong")
    podman.push(team.name_of("team/base:1"), team.name_of("team/app:1"), "--creds", CREDENTIALS)
    assert pushed(team, "team/app")

    auth = tmp_path / "auth.json"
    with denied():
        run(["podman", *podman.options, "login", "--authfile", auth, "--tls-verify=false",
             "--username", "alice", "--password", "no", host(team.address)], podman.env)
    run(["podman", *podman.options, "login", "--authfile", auth, "--tls-verify=false",
         "--username", "alice", "--password", PASSWORD, host(team.address)], podman.env)
    podman.push(team.name_of("team/base:1"), team.name_of("secret/app:1"), "--authfile", auth)
    assert pushed(team, "secret/app")
    podman.pull(team.name_of("secret/app:1"), "--tls-verify=false", "--authfile", auth)


def test_buildah(team, closing, tmp_path):
    """buildah builds on a base that is for everybody, and pushes with a login."""
    seed(team, "base", "team/base")
    buildah = closing(Buildah(tmp_path))
    buildah.build(team.name_of("team/base:1"), team.name_of("team/built:1"))
    with denied():
        buildah.push(team.name_of("team/built:1"))
    run(["buildah", *buildah.options, "push", "--signature-policy", buildah.policy,
         "--tls-verify=false", "--creds", CREDENTIALS, team.name_of("team/built:1"),
         f"docker://{team.name_of('team/built:1')}"])
    assert pushed(team, "team/built")


# --- containerd ---

def test_containerd(team, closing, tmp_path):
    """ctr pulls without --user and is refused a push; with it both go. It tries a form for its
    token first, and takes the refusal of that for what it is."""
    item = seed(team, "ctr", "team/base")
    containerd = closing(Containerd(tmp_path))
    containerd.use(host(team.address), url(team.address))
    containerd.pull(team.name_of("team/base:1"))
    containerd.ctr("images", "tag", team.name_of("team/base:1"), team.name_of("secret/app:1"))
    platform = ("--platform", "linux/amd64")
    with denied():
        containerd.push(team.name_of("secret/app:1"), *platform)
    with denied():
        containerd.push(team.name_of("secret/app:1"), "--user", "alice:wrong", *platform)
    containerd.push(team.name_of("secret/app:1"), "--user", CREDENTIALS, *platform)
    assert pushed(team, "secret/app")
    posts = [x for x in team.log_lines() if x.get("method") == "POST" and x["door"] == "admin"]
    assert posts and {x["status"] for x in posts} == {405}

    directory = tmp_path / "other"
    directory.mkdir()
    other = closing(Containerd(directory))
    other.use(host(team.address), url(team.address))
    with denied():
        other.fetch(team.name_of("secret/app:1"), *platform)
    other.fetch(team.name_of("secret/app:1"), "--user", CREDENTIALS, *platform)
    assert other.digest(team.name_of("secret/app:1")) in (item.digest, None)
    assert other.content(item.layers[0].digest) == item.layers[0].data


# --- a token server ---

@pytest.fixture(params=["RS256", "ES256"])
def signer(closing, tmp_path, request):
    made = closing(SigningTokenServer(tmp_path, request.param, users={"alice": PASSWORD}))
    made.public.add("team/base")
    return made


@pytest.fixture
def guarded(cachalot, closing, tmp_path, signer):
    """A registry that takes the tokens of a server: passwords are that one's affair."""
    closing(Witness(tmp_path)).password("alice", PASSWORD, signer)
    return cachalot({}, {"auth": {"token-key": signer.certificate, "token-realm": signer.realm,
                                  "token-service": "registry.test", "token-issuer": "tokens"}})


def push_with_token(daemon, signer, item, repository):
    rights = [{"type": "repository", "name": repository, "actions": ["pull", "push"]}]
    client = Client(daemon.address, token=signer.sign(signer.claims("alice", rights)))
    for each in item.all_blobs():
        path = f"/v2/{repository}/blobs/uploads/?digest={each.digest}"
        assert client.call("POST", path, each.data).status == 201
    got = client.call("PUT", f"/v2/{repository}/manifests/1", item.data,
                      [("Content-Type", item.media_type)])
    assert got.status == 201, got


def test_docker_with_a_token_server(guarded, signer, engine):
    """Docker gets its tokens there: nobody's for a pull of what is public, a user's to push."""
    item = image.image("tokens", types=DOCKER)
    push_with_token(guarded, signer, item, "team/base")
    docker = engine()
    name = host(guarded.address)
    docker.pull(f"{name}/team/base:1")
    docker.docker("tag", f"{name}/team/base:1", f"{name}/team/app:1")
    with denied():
        docker.push(f"{name}/team/app:1")
    with denied():
        login(docker, guarded, password="wrong")
    login(docker, guarded)
    docker.push(f"{name}/team/app:1")
    docker.pull(f"{name}/team/app:1")
    assert basic("alice", PASSWORD) in {r.fields.get("authorization") for r in signer.asked()}


def test_skopeo_with_a_token_server(guarded, signer, tmp_path):
    """skopeo does so too, and its user's name is in the log."""
    item = image.image("tokens")
    skopeo = Skopeo(tmp_path)
    name = f"{host(guarded.address)}/team/app:1"
    with denied():
        skopeo.push(item, name)
    skopeo.push(item, name, "--dest-creds", CREDENTIALS)
    with denied():
        skopeo.copy(name)
    check_dir(skopeo.copy(name, "--src-creds", CREDENTIALS), item)
    until("the push was logged", lambda: [
        x["user"] for x in guarded.access_log()
        if x["method"] == "PUT" and x["reference"] == "1" and x["status"] == 201] == ["alice"])
