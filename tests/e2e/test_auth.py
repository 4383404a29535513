# SPDX-License-Identifier: ISC
"""Registries that ask who is there: tokens and passwords are brought where they belong,
and come to nobody else, whatever a registry, a token server or a redirect says."""

import json
import resource
import subprocess
import time

import pytest

from lib import image
from lib.crowd import Crowd, together
from lib.hub import Hub
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest, tags
from lib.pki import Authority
from lib.tokens import (IDENTITY, GuardedHub, SigningTokenServer, TokenServer, Witness,
                        basic)
from lib.wait import until

NAME, PASSWORD = "office", "correct horse: battery \"staple\""
APP = "library/app"


@pytest.fixture
def witness(closing, tmp_path):
    """What is secret in the test is nowhere where it must not be, in the end."""
    return closing(Witness(tmp_path))


@pytest.fixture
def tokens(closing):
    return closing(TokenServer())


@pytest.fixture
def guarded(closing, tokens, witness):
    """A registry that wants tokens, with an image."""
    hub = closing(GuardedHub(tokens))
    hub.item = hub.hold(image.image("guarded", (60_000, 40_000)), APP, "1")
    witness.tokens(tokens, hub)
    return hub


def authority_of(server):
    host, port = server.address
    return f"{host}:{port}"


def upstream_of(hub, tokens=None, **options):
    said = {"url": hub.url, "retries": 0, "tag-ttl": "0s", "not-found-ttl": "0s", **options}
    if tokens:
        said["realm-hosts"] = authority_of(tokens)
    return said


@pytest.fixture
def secret_file(tmp_path):
    def make(text=PASSWORD, mode=0o600, name="secret"):
        path = tmp_path / name
        path.write_text(text + "\n")
        path.chmod(mode)
        return path

    return make


@pytest.fixture
def login(secret_file, witness):
    """Options for a name and a password that these servers may see."""
    def make(*servers):
        witness.password(NAME, PASSWORD, *servers)
        return {"username": NAME, "password-file": secret_file()}

    return make


def pull(daemon, item, repository=APP, tag="1", registry=HUB):
    got = daemon.get(manifest(repository, tag, registry), fields=ACCEPT)
    assert got.status == 200 and got.body == item.data, got
    for x in item.all_blobs():
        assert daemon.get(blob(repository, x.digest, registry)).body == x.data


def refused(daemon, repository=APP, tag="1"):
    """The text of the error of a pull."""
    got = daemon.get(manifest(repository, tag), fields=ACCEPT)
    assert got.status in (401, 403, 429, 502, 504), got
    return json.loads(got.body)["errors"][0]["detail"]


def authorizations(server):
    return [r.fields.get("authorization") for r in server.asked()]


# --- tokens ---

def test_anonymous_token(guarded, tokens, cachalot):
    """A pull from a registry that wants tokens: one is asked for, without a name, with what
    the challenge said; all the pull is done with it."""
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    pull(daemon, guarded.item)
    asked, = tokens.asked()
    assert asked.method == "GET"
    assert asked.pairs == [("service", "registry.test"), ("scope", f"repository:{APP}:pull")]
    assert "authorization" not in asked.fields
    refusals = [r for r in guarded.asked() if r.status == 401]
    assert len(refusals) == 1, refusals
    assert authorizations(guarded)[0] is None
    assert len(set(authorizations(guarded)[1:])) == 1


def test_a_token_for_each_repository(guarded, tokens, cachalot):
    """Another repository is another scope; the first one's token is not sent for it."""
    other = guarded.hold(image.image("other", (1000,)), "library/other", "1")
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    pull(daemon, guarded.item)
    pull(daemon, other, "library/other")
    assert tokens.count() == 2
    assert {s for _, scopes in tokens.issued.values() for s in scopes} == {
        f"repository:{APP}:pull", "repository:library/other:pull"}


def test_many_wait_for_one_token(guarded, tokens, cachalot):
    """Twenty downloads whose token has expired: one token for all of them."""
    digests = [guarded.hold_blob(APP, image.noise(5000, f"many {i}")) for i in range(20)]
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    daemon.get(manifest(APP, "1"), fields=ACCEPT)
    tokens.revoke()
    gate = tokens.gate("/token")
    crowd = Crowd()
    for digest in digests:
        crowd.add(daemon.get, blob(APP, digest))
    daemon.wait_metric("fetches", 20)
    gate.wait_reached()
    gate.open()
    assert {got.status for got in crowd.join()} == {200}
    assert tokens.count() == 2


@pytest.mark.parametrize("members, life", [
    (("token",), 300), (("access_token",), 300), (("token", "access_token"), None),
    (("access_token",), None), (("token",), 1), (("token",), -5), (("token",), 10 ** 12),
    (("token",), "300"),
], ids=str)
def test_forms_of_answers(guarded, tokens, cachalot, members, life):
    """The member's name, a missing, odd or silly expires_in: all the same."""
    tokens.members, tokens.life = members, life
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    pull(daemon, guarded.item)
    assert tokens.count() == 1


def test_a_token_expires_within_a_pull(guarded, tokens, cachalot):
    """What was good is refused: another one is got, once, and the client sees nothing."""
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    assert daemon.get(manifest(APP, "1"), fields=ACCEPT).status == 200
    tokens.revoke()
    for x in guarded.item.all_blobs():
        assert daemon.get(blob(APP, x.digest)).body == x.data
    assert tokens.count() == 2


def test_a_token_expires_within_a_blob(guarded, tokens, cachalot):
    """The line breaks, the token has expired: the download goes on with another."""
    data = image.noise(1_000_000, "expires")
    digest = guarded.hold_blob(APP, data)
    guarded.fault(digest, truncate_after=400_000, times=1)
    gate = guarded.gate(digest, after=300_000, times=1)
    gate.open()
    guarded.faults.reverse()
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens), "retries": 2}})
    daemon.get(manifest(APP, "1"), fields=ACCEPT)
    tokens.revoke()
    assert daemon.get(blob(APP, digest)).body == data
    assert tokens.count() == 2


@pytest.mark.parametrize("status", [400, 403])
def test_other_words_for_expired(guarded, tokens, cachalot, status):
    """A young token that is answered with 400 or 403 has not expired: no storm."""
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    pull(daemon, guarded.item)
    guarded.forget()
    guarded.fault("/manifests/2", status=status)
    refused(daemon, tag="2")
    assert tokens.count() == 1 and guarded.count() <= 2


def test_a_registry_that_refuses_every_token(guarded, tokens, cachalot):
    """A 401 loop: an error that says what it may be; the second time with no new token."""
    guarded.private.add(APP)
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    text = refused(daemon)
    assert "does not exist or needs credentials" in text
    assert tokens.count() == 1 and guarded.count() == 2
    guarded.forget()
    refused(daemon)
    assert tokens.count() == 1 and guarded.count() == 1
    line = daemon.wait_access(2)[-1]
    assert line["outcome"] == "unauthorized" and line["status"] == 401, line


def test_challenges_that_change(guarded, tokens, cachalot):
    """A registry that wants something else each time is not followed for ever."""
    guarded.private.add(APP)
    serial = iter(range(1000))

    class Changing(list):
        def __iter__(self):
            return iter([f'Bearer realm="{tokens.realm}",service="s{next(serial)}"'])

    guarded.challenges = Changing()
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    refused(daemon)
    assert tokens.count() <= 3 and guarded.count() <= 4


def test_a_realm_that_moves(guarded, tokens, cachalot, closing, witness):
    """The token server is gone and the registry names another: found within two pulls."""
    other = closing(TokenServer())
    witness.tokens(other, guarded)
    both = f"{authority_of(tokens)} {authority_of(other)}"
    daemon = cachalot({HUB: {**upstream_of(guarded), "realm-hosts": both}})
    pull(daemon, guarded.item)
    tokens.down()
    tokens.revoke()
    guarded.tokens = other
    statuses = [daemon.get(tags(APP)).status for _ in range(3)]
    assert statuses[-1] == 200, statuses


def test_no_tokens_are_shared_between_upstreams(guarded, tokens, cachalot):
    """Two upstreams at one registry: each has tokens of its own."""
    said = upstream_of(guarded, tokens)
    daemon = cachalot({HUB: said, "other.test": said})
    pull(daemon, guarded.item)
    daemon.get(tags(APP, registry="other.test"))
    assert tokens.count() == 2


# --- passwords ---

def test_name_and_password(guarded, tokens, cachalot, login):
    """A private repository: name and password go to the token server alone."""
    tokens.users[NAME] = PASSWORD
    guarded.private.add(APP)
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens), **login(tokens)}})
    pull(daemon, guarded.item)
    asked, = tokens.asked()
    assert asked.fields["authorization"] == basic(NAME, PASSWORD)
    assert asked.query["account"] == NAME


def test_a_name_that_may_not(guarded, tokens, cachalot, login):
    """The token server knows the name, the registry does not let it: said so."""
    tokens.users[NAME] = PASSWORD
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens), **login(tokens)}})
    guarded.admits = lambda request: False
    assert "is not for the user of [upstream docker.io]" in refused(daemon)
    assert tokens.count() <= 2


def test_a_new_password(guarded, tokens, cachalot, login, secret_file, witness):
    """The password has changed: the file is read again when the old one is refused; no
    restart. A wrong one is refused with one request for each pull."""
    witness.password(NAME, "new-password", tokens)
    tokens.users[NAME] = "new-password"
    guarded.private.add(APP)
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens), **login(tokens)}})
    assert "gives the user of [upstream docker.io] no token" in refused(daemon)
    assert tokens.count() == 1
    secret_file("new-password")
    pull(daemon, guarded.item)
    assert tokens.count() == 3


def test_basic(closing, witness, cachalot, login):
    """A registry with passwords of its own (Basic): once challenged, it gets the password
    at once with every request."""
    hub = closing(GuardedHub(users={NAME: PASSWORD}))
    item = hub.hold(image.image("basic"), APP, "1")
    daemon = cachalot({HUB: {**upstream_of(hub), **login(hub)}})
    pull(daemon, item)
    assert authorizations(hub)[0] is None
    assert set(authorizations(hub)[1:]) == {basic(NAME, PASSWORD)}


def test_basic_without_a_password(closing, cachalot):
    """The same without a password: the error says what is missing."""
    hub = closing(GuardedHub(users={NAME: PASSWORD}))
    daemon = cachalot({HUB: upstream_of(hub)})
    assert "wants a password, and [upstream docker.io] has none" in refused(daemon)
    assert hub.count("HEAD") == 1


def test_basic_with_a_wrong_password(closing, witness, cachalot, login, secret_file):
    """A wrong password is sent once a question; a corrected one helps at once."""
    hub = closing(GuardedHub(users={NAME: "right"}))
    witness.password(NAME, "right", hub)
    item = hub.hold(image.image("basic"), APP, "1")
    daemon = cachalot({HUB: {**upstream_of(hub), **login(hub)}})
    assert "refused the user name or password of [upstream docker.io]" in refused(daemon)
    assert hub.count() == 2
    secret_file("right")
    # A password that was read in the millisecond when a question began counts as read for it.
    read_ms = time.monotonic_ns() // 1_000_000
    until("that millisecond is over", lambda: time.monotonic_ns() // 1_000_000 > read_ms)
    pull(daemon, item)


@pytest.mark.parametrize("wrong", ["open", "missing", "folder", "two-lines", "empty"])
def test_a_bad_password_file(guarded, tokens, cachalot, secret_file, wrong):
    """A password file that is, since the start, open to all, not there, or no password:
    nothing is sent, and the error names the file."""
    path = secret_file()
    said = {**upstream_of(guarded, tokens), "username": NAME, "password-file": path}
    daemon = cachalot({HUB: said})
    if wrong == "open":
        path.chmod(0o644)
    elif wrong == "missing":
        path.unlink()
    elif wrong == "folder":
        path.unlink()
        path.mkdir()
    elif wrong == "two-lines":
        path.write_text("one\ntwo\n")
    elif wrong == "empty":
        path.write_text("")
    text = refused(daemon)
    assert str(path) in text, text
    assert tokens.count() == 0
    assert daemon.wait_access(1)[0]["outcome"] == "credential"


# --- helpers ---

@pytest.fixture
def helper(tmp_path):
    """A credential helper that says this, and keeps a record of its runs."""
    def make(body):
        path = tmp_path / "docker-credential-test"
        path.write_text(f"#!/bin/sh\ncd '{tmp_path}'\necho \"$*:$(cat)\" >>helper-runs\n{body}\n")
        path.chmod(0o700)
        return path

    make.runs = lambda: (tmp_path / "helper-runs").read_text().splitlines()
    return make


def answer(name, secret):
    return f"echo '{{\"ServerURL\":\"x\",\"Username\":\"{name}\",\"Secret\":\"{secret}\"}}'"


def test_helper(closing, witness, cachalot, helper):
    """Amazon's registry: Basic with a password of 12 hours that a helper gives. It is run
    once for many, and is told the registry's name."""
    secret = witness.password("AWS", "eyJwYXlsb2FkIjoi" + "x" * 1500)
    hub = closing(GuardedHub(users={"AWS": secret}))
    hub.challenges = ['Basic realm="https://1.dkr.ecr.eu-west-2.amazonaws.com/",'
                      'service="ecr.amazonaws.com"']
    witness.passwords[-1] = ("AWS", secret, (hub,))
    witness.watch(hub)
    ecr = "1.dkr.ecr.eu-west-2.amazonaws.com"
    items = [hub.hold(image.image(f"ecr {i}"), f"team/app{i}", "1") for i in range(4)]
    said = {**upstream_of(hub), "credential-helper": helper(answer("AWS", secret))}
    daemon = cachalot({ecr: said})
    together(4, lambda i: pull(daemon, items[i], f"team/app{i}", registry=ecr))
    assert helper.runs() == [f"get:{ecr}"]


def test_helper_for_the_hub(guarded, tokens, cachalot, helper, witness):
    """For Docker Hub a helper knows the name of long ago."""
    tokens.users[NAME] = witness.password(NAME, "dckr_pat_1234", tokens)
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens),
                             "credential-helper": helper(answer(NAME, "dckr_pat_1234"))}})
    pull(daemon, guarded.item)
    assert helper.runs() == ["get:https://index.docker.io/v1/"]


def test_identity_token(guarded, tokens, cachalot, helper, witness):
    """Azure's way: an identity token is traded for tokens by POST, and goes nowhere else."""
    secret = witness.password(IDENTITY, "identity&token+of/azure=", tokens)
    tokens.identities.add(secret)
    tokens.members = ("access_token",)
    guarded.private.add(APP)
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens),
                             "credential-helper": helper(answer(IDENTITY, secret))}})
    pull(daemon, guarded.item)
    asked, = tokens.asked()
    assert asked.method == "POST" and asked.path == "/token" and not asked.pairs
    assert asked.fields["content-type"] == "application/x-www-form-urlencoded"


def test_identity_token_for_basic(closing, cachalot, helper, witness):
    """An identity token is no password: not sent."""
    hub = closing(GuardedHub(users={NAME: PASSWORD}))
    witness.watch(hub)
    witness.password(IDENTITY, "eyJ.identity")
    daemon = cachalot({HUB: {**upstream_of(hub),
                             "credential-helper": helper(answer(IDENTITY, "eyJ.identity"))}})
    assert "identity token" in refused(daemon)


@pytest.mark.parametrize("body, text", [
    ("echo no credentials here; exit 1", "ended with status 1: no credentials here"),
    ("echo '{\"Secret\":\"hunter2\"}'; exit 3", "ended with status 3"),
    ("echo hunter2", "not a JSON object"),
    ("kill -SEGV $$", "was ended by signal 11"),
    ("head -c 100000 /dev/zero", "said more than 65536 bytes"),
], ids=["says", "secret", "text", "signal", "long"])
def test_helper_fails(guarded, tokens, cachalot, helper, witness, body, text):
    """A helper that fails: an error that says so, which quotes nothing that may be secret;
    it is not run again at once."""
    witness.password("x", "hunter2")
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens), "credential-helper": helper(body)}})
    assert text in refused(daemon)
    refused(daemon)
    assert len(helper.runs()) == 1
    assert tokens.count() == 0


def test_helper_hangs(guarded, tokens, cachalot, helper, closing, witness):
    """A helper that hangs holds up nobody but those who need it, and no shutdown."""
    free = closing(Hub())
    item = free.hold(image.image("free"), "free/app", "1")
    witness.watch(free)
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens),
                             "credential-helper": helper("sleep 1000")},
                       "free.test": upstream_of(free)})
    with daemon.connect() as c:
        c.request(manifest(APP, "1"), fields=ACCEPT)
        guarded.wait_count(1)
        pull(daemon, item, "free/app", registry="free.test")
    assert daemon.stop() == 0


# --- realms that must not be asked ---

@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def secure(closing, authority, witness, login):
    """An https registry with a token server and a password, and an evil server: (hub,
    tokens, evil, options)."""
    context = authority.context("IP:127.0.0.1,IP:127.0.0.2")
    tokens = closing(TokenServer(tls=context, users={NAME: PASSWORD}))
    hub = closing(GuardedHub(tokens, tls=context))
    hub.item = hub.hold(image.image("secure", (5000,)), APP, "1")
    evil = closing(TokenServer("127.0.0.2", tls=context))
    witness.tokens(tokens, hub)
    witness.watch(evil)
    options = {**upstream_of(hub, tokens), **login(tokens), "ca-file": authority.certificate}
    return hub, tokens, evil, options


def test_secure(secure, cachalot):
    """It works over https as it should."""
    hub, tokens, evil, options = secure
    daemon = cachalot({HUB: options})
    pull(daemon, hub.item)
    assert tokens.asked()[0].fields["authorization"] == basic(NAME, PASSWORD)


@pytest.mark.parametrize("realm, text", [
    ("https://{evil}/token", "realm-hosts in [upstream docker.io] would allow it: {evil}"),
    ("https://{evil}/token?{tokens}", "would allow it: {evil}"),
    ("https://{tokens}@{evil}/token", "not a plain url"),
    ("https://user:password@{tokens}/token", "not a plain url"),
    ("https://{evil}\\\\@{tokens}/token", "not a plain url"),
    ("https://{tokens}/token#x", "not a plain url"),
    ("http://{tokens}/token", "by http"),
    ("http://{plain}/token", "by http"),
    ("https://169.254.169.254/latest/meta-data", "would allow it: 169.254.169.254"),
    ("https://127.0.0.1:{port}/-/metrics", "would allow it: 127.0.0.1:{port}"),
    ("file:///etc/passwd", "not a plain url"),
    ("token", "not a plain url"),
    ("", "not a plain url"),
], ids=str)
def test_realms(secure, cachalot, closing, witness, realm, text):
    """A registry that names a realm elsewhere: nobody is asked, nothing is sent, and the
    error says which option would allow it, if any."""
    hub, tokens, evil, options = secure
    plain = closing(TokenServer())
    witness.watch(plain)
    daemon = cachalot({HUB: options}, start=False)
    names = {"evil": authority_of(evil), "tokens": authority_of(tokens),
             "plain": authority_of(plain), "port": daemon.address[1]}
    hub.realm = realm.format(**names)
    daemon.start()
    assert text.format(**names) in refused(daemon)
    assert evil.count() + tokens.count() + plain.count() == 0
    daemon.wait_access(1)


def test_a_realm_that_is_allowed(secure, cachalot):
    """What the error names does allow it."""
    hub, tokens, evil, options = secure
    hub.tokens = evil
    options["realm-hosts"] = authority_of(evil)
    evil.users = {NAME: "another"}
    daemon = cachalot({HUB: {k: v for k, v in options.items()
                             if k not in ("username", "password-file")}})
    pull(daemon, hub.item)


def test_a_realm_that_redirects(secure, cachalot):
    """A token server that redirects, to a stranger or to itself, is not followed."""
    hub, tokens, evil, options = secure
    daemon = cachalot({HUB: options})
    for where in (evil.realm, "/token/again"):
        tokens.heal()
        tokens.fault("/token", redirect=where)
        assert "redirects, as no token server may" in refused(daemon)
    assert evil.count() == 0
    assert all(r.path == "/token" for r in tokens.asked())


@pytest.fixture
def outside(tmp_path):
    """An address that looks like one of the internet, and a host *.outside.test at loopback."""
    address, names = "198.51.100.7", tmp_path / "hosts"
    names.write_text("127.0.0.1 auth.outside.test\n")
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    subprocess.run(["mount", "--bind", names, "/etc/hosts"], check=True)
    yield address
    subprocess.run(["umount", "--lazy", "/etc/hosts"], check=True)
    subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


@pytest.mark.mounts
@pytest.mark.parametrize("listed, text", [
    ("*.outside.test", "the token server is at an address that is not public"),
    ("auth.outside.test", None),
], ids=["pattern", "in-full"])
def test_a_realm_within_our_network(closing, cachalot, witness, outside, authority, login,
                                    listed, text):
    """A registry in the internet whose token server's name leads into our network: asked
    only if the configuration names it in full."""
    context = authority.context(f"IP:{outside},DNS:auth.outside.test")
    tokens = closing(TokenServer(tls=context, users={NAME: PASSWORD}))
    hub = closing(GuardedHub(tokens, host=outside, tls=context))
    hub.realm = f"https://auth.outside.test:{tokens.address[1]}/token"
    item = hub.hold(image.image("outside"), APP, "1")
    witness.tokens(tokens, hub)
    daemon = cachalot({HUB: {**upstream_of(hub), **login(tokens), "realm-hosts": listed,
                             "ca-file": authority.certificate}})
    if text is None:
        pull(daemon, item)
    else:
        assert text in refused(daemon)
        assert tokens.count() == 0


BAD_TOKENS = {
    "huge": ({"answer_body": b"x" * 1_000_000}, "more than 131072 bytes"),
    "long": ({"text": "x" * 66_000, "members": ("token",)}, "longer than 65536 bytes"),
    "field": ({"text": "x\r\nX-Injected: y"}, "characters that none may have"),
    "words": ({"text": "two words"}, "characters that none may have"),
    "letters": ({"text": "\u00e9"}, "characters that none may have"),
    "nothing": ({"answer_body": b""}, "not a JSON object"),
    "html": ({"answer_body": b"<html>log in</html>"}, "not a JSON object"),
    "deep": ({"answer_body": b"[" * 100_000}, "not a JSON object"),
    "twice": ({"answer_body": b'{"token":"a","token":"b"}'}, "not a JSON object"),
    "none": ({"answer_body": b'{"expires_in":300}'}, "has no token"),
    "empty": ({"answer_body": b'{"token":""}'}, "has no token"),
    "object": ({"answer_body": b'{"token":{"token":"a"}}'}, "has no token"),
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_bad_tokens(guarded, tokens, cachalot, kind):
    """Answers that are too long, no JSON, or no token: an error that says so, and no field
    of the token's making."""
    switches, text = BAD_TOKENS[kind]
    for name, value in switches.items():
        setattr(tokens, name, value)
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    assert text in refused(daemon)
    assert not any("x-injected" in r.fields for r in guarded.asked())
    tokens.text = tokens.answer_body = None
    pull(daemon, guarded.item)


@pytest.mark.parametrize("switches, status, outcome", [
    ({"status": 401}, 401, "unauthorized"),
    ({"status": 403}, 401, "unauthorized"),
    ({"status": 404}, 502, "upstream-broken"),
    ({"status": 429, "retry_after": "17"}, 429, "upstream-limited"),
    ({"status": 500}, 502, "upstream-error"),
    ({"status": 503}, 502, "upstream-error"),
    ({"close": True}, 502, "upstream-broken"),
    ({"silent": True}, 504, "upstream-timeout"),
    ({"stall_after": 10}, 504, "upstream-timeout"),
    ({"truncate_after": 10}, 502, "upstream-broken"),
], ids=str)
def test_a_token_server_that_fails(guarded, tokens, cachalot, switches, status, outcome):
    """Its failure is what the client is told, under its right name; what is held is served
    all the same."""
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens), "stall-timeout": "400ms"}})
    pull(daemon, guarded.item)
    tokens.revoke()
    tokens.fault("/token", **switches)
    got = daemon.get(tags(APP))
    assert got.status == status, got
    if status == 429:
        assert got["retry-after"] == "17"
    assert outcome in [line["outcome"] for line in daemon.wait_access(5)]
    pull(daemon, guarded.item)
    tokens.heal()
    daemon.hup()  # what is known of an upstream that failed is forgotten
    assert daemon.get(tags(APP)).status == 200


def test_a_token_server_that_is_down(guarded, tokens, cachalot):
    """A token that is held is used while its server is down."""
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    assert daemon.get(tags(APP)).status == 200
    tokens.down()
    pull(daemon, guarded.item)


# --- redirects ---

def test_no_credentials_to_a_cdn(guarded, tokens, cachalot, closing, login, witness):
    """A blob at another host: it gets no token; one that asks for one gets none."""
    tokens.users[NAME] = PASSWORD
    cdn = closing(Hub())
    witness.watch(cdn)
    for x in guarded.item.all_blobs():
        cdn.blobs["store", x.digest] = x.data
        guarded.fault(x.digest, redirect=f"{cdn.url}/v2/store/blobs/{x.digest}?sig=1")
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens), **login(tokens)}})
    # The fault answers whoever asks; a token is had from the manifest.
    pull(daemon, guarded.item)
    assert authorizations(cdn) == [None] * cdn.count() and cdn.count() == 3


def test_a_challenge_after_a_redirect(closing, guarded, tokens, cachalot, login, witness):
    """A stranger that answers 401 after a redirect is given nothing, nor is its realm asked."""
    tokens.users[NAME] = PASSWORD
    evil = closing(TokenServer("127.0.0.2"))
    trap = closing(GuardedHub(evil))
    witness.watch(evil, trap)
    x = guarded.item.layers[0]
    guarded.fault(x.digest, redirect=f"{trap.url}/v2/store/blobs/{x.digest}")
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens), **login(tokens),
                             "realm-hosts": f"{authority_of(tokens)} {authority_of(evil)}"}})
    daemon.get(manifest(APP, "1"), fields=ACCEPT)
    got = daemon.get(blob(APP, x.digest))
    # The registry itself has refused nothing.
    assert got.status == 502 and b"redirect" in got.body
    assert set(authorizations(trap)) == {None} and evil.count() == 0


def test_a_redirect_within_the_registry(closing, witness, cachalot, login):
    """Google's way: a blob is at another path of the registry itself, which wants to know
    who is there again."""
    hub = closing(GuardedHub(users={NAME: PASSWORD}))
    item = hub.hold(image.image("within"), APP, "1")
    for x in item.all_blobs():
        hub.blobs["artifacts", x.digest] = x.data
        hub.fault(f"{APP}/blobs/{x.digest}", redirect=f"/v2/artifacts/blobs/{x.digest}")
    daemon = cachalot({HUB: {**upstream_of(hub), **login(hub)}})
    pull(daemon, item)


def test_another_port_is_another_registry(closing, witness, cachalot, login):
    """The same host by another port gets nothing of ours."""
    hub = closing(GuardedHub(users={NAME: PASSWORD}))
    other = closing(Hub())
    witness.watch(other)
    item = hub.hold(image.image("port"), APP, "1")
    for x in item.all_blobs():
        other.blobs["store", x.digest] = x.data
        hub.fault(x.digest, redirect=f"{other.url}/v2/store/blobs/{x.digest}")
    daemon = cachalot({HUB: {**upstream_of(hub), **login(hub)}})
    pull(daemon, item)
    assert set(authorizations(other)) == {None}


# --- every registry that an office uses ---

REGISTRIES = {
    "docker-hub": ['Bearer realm="{realm}",service="{service}",scope="{scope}"'],
    "ghcr": ['Bearer realm="{realm}",service="{service}",scope="{scope}"'],
    "quay": ['Bearer realm="{realm}",service="{service}"'],
    "artifact-registry": ['Bearer realm="{realm}"'],
    "ecr-public": ['Bearer realm="{realm}/",service="{service}",scope="aws"'],
    "acr": ['Bearer realm="{realm}",service="{service}",scope="{scope}",error="invalid_token"',
            'Basic realm="{service}"'],
    "gitlab": ['Bearer realm="{realm}",service="container_registry",scope="{scope}",'
               'error="invalid_token"'],
    "harbor": ['Bearer realm="{realm}",service="harbor-registry"'],
    "artifactory": ['Basic realm="Artifactory Realm", Bearer realm="{realm}",service="{service}"'],
    "nexus": ['BASIC realm="Sonatype Nexus Repository Manager"',
              'BEARER realm="{realm}", service="{realm}"'],
    "docker-registry": ['Bearer realm="{realm}",service="{service}",scope="{scope}"'],
    "gitea": ['Bearer realm="{realm}",service="container_registry",scope="*"',
              'Basic realm="Gitea"'],
    "negotiate": ['Negotiate', 'NTLM, Bearer realm="{realm}",scope="{scope}"'],
}


@pytest.mark.parametrize("registry", REGISTRIES)
def test_registries(guarded, tokens, cachalot, login, registry):
    """The challenge of each registry, with a name and a password."""
    tokens.users[NAME] = PASSWORD
    guarded.private.add(APP)
    guarded.challenges = REGISTRIES[registry]
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens), **login(tokens)}})
    pull(daemon, guarded.item)
    assert tokens.count() == 1
    scope, = [s for _, scopes in tokens.issued.values() for s in scopes]
    assert scope == {"ecr-public": "aws", "gitea": "*"}.get(registry, f"repository:{APP}:pull")


@pytest.mark.parametrize("challenge", [
    [], ["Digest realm=\"x\", nonce=\"y\""], ["Bearer"], ["Bearer realm"], ["\"\"\"\""],
    ['Bearer realm="{realm}'], ["x" * 9000], ["Basic realm=\"x\""] * 200,
    ['Bearer realm="{realm}", realm="{realm}"'],
], ids=range(9))
def test_challenges_that_cannot_be_met(guarded, tokens, cachalot, challenge):
    """No challenge, one of another scheme or off the grammar, or too many of them."""
    guarded.challenges = challenge
    daemon = cachalot({HUB: upstream_of(guarded, tokens)})
    refused(daemon)
    assert tokens.count() == 0


# --- a real registry ---

def test_docker_registry_with_passwords(registry, cachalot, secret_file, tmp_path):
    """docker-registry with htpasswd: a wrong password, then the right one."""
    item = registry.push(image.image("htpasswd"), "team/app", "1")
    registry.stop()
    users = tmp_path / "htpasswd"
    subprocess.run(["htpasswd", "-Bbc", users, NAME, PASSWORD], check=True, capture_output=True)
    registry.start(f"auth: {{htpasswd: {{realm: e2e, path: {users}}}}}\n")
    said = {**upstream_of(registry), "username": NAME, "password-file": secret_file("wrong")}
    daemon = cachalot({"registry.test": said})
    got = daemon.get(manifest("team/app", "1", "registry.test"), fields=ACCEPT)
    assert got.status == 403 and b"refused the user name or password" in got.body
    secret_file(PASSWORD)
    pull(daemon, item, "team/app", registry="registry.test")


def test_docker_registry_with_tokens(registry, cachalot, closing, witness, secret_file, tmp_path):
    """docker-registry with a token server that signs: a public repository without a name, a
    private one with it."""
    public = registry.push(image.image("public"), "open/app", "1")
    private = registry.push(image.image("private"), "team/app", "1")
    registry.stop()
    tokens = closing(SigningTokenServer(tmp_path, users={NAME: PASSWORD}))
    witness.password(NAME, PASSWORD, tokens)
    tokens.public.add("open/app")
    registry.start(tokens.registry_options)
    said = upstream_of(registry, tokens)
    named = {"username": NAME, "password-file": secret_file()}
    daemon = cachalot({"anonymous.test": said, "named.test": {**said, **named}})
    pull(daemon, public, "open/app", registry="anonymous.test")
    got = daemon.get(manifest("team/app", "1", "anonymous.test"), fields=ACCEPT)
    assert got.status == 401 and tokens.realm in got["www-authenticate"]
    pull(daemon, private, "team/app", registry="named.test")


# --- the process ---

def test_no_core(guarded, tokens, cachalot, login):
    """A process that has read a password leaves no core."""
    tokens.users[NAME] = PASSWORD
    daemon = cachalot({HUB: {**upstream_of(guarded, tokens), **login(tokens)}})
    pull(daemon, guarded.item)
    assert resource.prlimit(daemon.child.pid, resource.RLIMIT_CORE) == (1, 1)
