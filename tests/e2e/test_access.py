# SPDX-License-Identifier: ISC
"""Who may pull, push and delete: by address, user and repository; and how clients say who
they are, by password, by a token of ours or by one of a token server."""

import contextlib
import hashlib
import hmac
import json
import os
import re
import ssl
import subprocess
from pathlib import Path

import pytest

from lib import image, rawhttp
from lib.access import ALICE, BOB, Client, PasswordFile, bearer, rule
from lib.crowd import Crowd
from lib.image import ACCEPT, OCI, digest_of, noise
from lib.memory import check_forgotten
from lib.names import PUBLIC, add_public_address
from lib.paths import HUB, blob, manifest
from lib.process import free_port
from lib.pusher import EVERYBODY, Pusher, Session, refused
from lib.tokens import (GuardedHub, SigningTokenServer, TokenServer, Witness, base64url,
                        basic)
from lib.wait import until

ELSEWHERE = "127.0.0.2"


@pytest.fixture
def users(tmp_path):
    return PasswordFile(tmp_path / "htpasswd", alice=ALICE, bob=BOB)


@pytest.fixture
def witness(closing, tmp_path):
    """No password comes to a file of the daemon, or to a server that is watched."""
    watching = closing(Witness(tmp_path))
    watching.password("alice", ALICE)
    watching.password("bob", BOB)
    return watching


@pytest.fixture
def team(cachalot, users, witness):
    """A registry that everybody may pull from, and alice push to."""
    return cachalot({}, {**users.options, **rule("everybody"),
                         **rule("team", users="alice", allow="pull push delete")})


# --- by rules ---

def test_without_rules(cachalot):
    """A fresh appliance: the LAN may pull from local repositories, nobody may push; the log
    says so, and which option changes it, and so does the refusal."""
    daemon = cachalot({}, {"listener main": {"allow": "any"}, **EVERYBODY})
    item = Pusher(daemon.address, "team/app").push(image.image("default"), "1")
    assert daemon.stop() == 0
    del daemon.sections["access everybody"]
    daemon.write_config()
    daemon.start()

    client = Client(daemon.address)
    assert client.rights("team/app") == "l"
    assert client.get("/v2/team/app/manifests/1", ACCEPT).body == item.data
    assert client.get("/v2/").status == 200
    assert "[access] in cachalot.ini" in refused(client.begin_push("team/app"), 403, "DENIED")
    said = [line["message"] for line in daemon.log_lines() if "may push" in line.get("message", "")]
    assert "everybody at private addresses may pull, nobody may push, nobody may delete" in said[-1]
    assert "[access NAME]" in said[-1]


@pytest.mark.mounts
def test_public_addresses(cachalot):
    """The rule of a fresh appliance is for private addresses alone, whatever the listener
    lets in."""
    add_public_address()
    daemon = cachalot({}, {"listener main": {"allow": "any"}})
    far = Client((PUBLIC, free_port()), source=PUBLIC)
    daemon.sections["listener main"]["address"] = "%s:%d" % daemon.address + " %s:%d" % far.address
    assert daemon.stop() == 0
    daemon.write_config()
    daemon.start()
    assert Client(daemon.address).rights("team/app") == "l"
    assert far.rights("team/app") == ""
    assert far.get("/v2/").status == 200


def test_rules_add_up(cachalot, users):
    """Rules for addresses, users and repositories: what any of them lets, is let; who might
    be let with a login is asked for one, who might not is refused."""
    daemon = cachalot({}, {
        **users.options,
        **rule("open", repositories="open/**"),
        **rule("builds", addresses=ELSEWHERE, repositories="team/*", allow="push"),
        **rule("alice", users="alice", repositories="team/** secret/*",
               allow="pull push delete"),
        **rule("known", users="*", repositories="shared", allow="pull"),
    })
    alice, bob = ("alice", ALICE), ("bob", BOB)
    table = [
        # who, from, where: letters of rights (see Client.rights)
        (None, None, "open/a/b", "l"), (alice, None, "open/a/b", "l"), (bob, None, "open/x", "l"),
        (None, None, "open", ""), (alice, None, "open", ""),
        (None, None, "team/app", "LSD"), (None, ELSEWHERE, "team/app", "LsD"),
        (None, ELSEWHERE, "team/a/b", "LSD"), (alice, None, "team/a/b", "lsd"),
        (bob, None, "team/app", ""), (bob, ELSEWHERE, "team/app", "s"),
        (alice, ELSEWHERE, "team/app", "lsd"),
        (None, None, "secret/a", "LSD"), (None, None, "secret/a/b", ""),
        (alice, None, "secret/a/b", ""), (bob, None, "secret/a", ""),
        (None, None, "shared", "L"), (bob, None, "shared", "l"), (alice, None, "shared", "l"),
        (None, None, "other", ""), (alice, ELSEWHERE, "other", ""),
    ]
    for who, source, repository, rights in table:
        client = Client(daemon.address, user=who, source=source)
        assert client.rights(repository) == rights, (who, source, repository)


def test_catalog(cachalot, users):
    """The list of repositories has those that one may pull from, and no others."""
    daemon = cachalot({}, {**users.options, **EVERYBODY})
    for repository in ("open/a", "open/b", "secret/a", "zoo"):
        Pusher(daemon.address, repository).push(image.image(repository, (1000,)), "1")
    daemon.sections.update({"access everybody": {"repositories": "open/**"},
                            **rule("alice", users="alice", repositories="**")})
    daemon.write_config()
    daemon.hup()

    def listed(client, query=""):
        got = client.get("/v2/_catalog" + query)
        assert got.status == 200, got
        return json.loads(got.body)["repositories"]

    alice = Client(daemon.address, user=("alice", ALICE))
    assert listed(Client(daemon.address)) == ["open/a", "open/b"]
    assert listed(Client(daemon.address, user=("bob", BOB))) == ["open/a", "open/b"]
    assert listed(alice) == ["open/a", "open/b", "secret/a", "zoo"]
    assert listed(Client(daemon.address, token=alice.token()), "?n=1&last=open/b") == ["secret/a"]
    assert listed(Client(daemon.address), "?last=open/b") == []


def test_mount(cachalot, users):
    """What one may not pull cannot be mounted, by its repository or by its digest alone; who
    may pull it can."""
    daemon = cachalot({}, {**users.options, **rule("everybody", allow="pull push"),
                           **rule("secret", users="alice", repositories="secret/*",
                                  allow="pull push")})
    daemon.sections["access everybody"]["repositories"] = "open/*"
    daemon.write_config()
    daemon.hup()
    data = noise(100_000, "secret")
    digest = digest_of(data)
    alice = Client(daemon.address, user=("alice", ALICE))
    got = alice.call("POST", f"/v2/secret/a/blobs/uploads/?digest={digest}", data)
    assert got.status == 201, got

    for query in (f"?mount={digest}&from=secret/a", f"?mount={digest}"):
        for who in (Client(daemon.address), Client(daemon.address, user=("bob", BOB))):
            got = who.call("POST", f"/v2/open/b/blobs/uploads/{query}")
            assert got.status == 202, got
            assert who.get(f"/v2/open/b/blobs/{digest}").status == 404
    got = alice.call("POST", f"/v2/open/c/blobs/uploads/?mount={digest}&from=secret/a")
    assert got.status == 201
    assert Client(daemon.address).get(f"/v2/open/c/blobs/{digest}").body == data


# --- passwords ---

def test_passwords(team):
    """Right ones, wrong ones and what is none; a wrong one is never taken for nobody."""
    client = Client(team.address)
    assert client.rights("team/app") == "lSD"
    assert Client(team.address, user=("alice", ALICE)).rights("team/app") == "lsd"
    assert Client(team.address, user=("bob", BOB)).rights("team/app") == "l"
    for user in (("alice", BOB), ("nobody", ALICE), ("alice", ""), ("Alice", ALICE),
                 ("alice", "x" * 600), ("", "")):
        got = Client(team.address, user=user).tags("team/app")
        # ":" is what podman says when it has nothing to say.
        assert got.status == (404 if user == ("", "") else 401), (user, got)
        if got.status == 401:
            assert got["WWW-Authenticate"] == 'Basic realm="cachalot"'
            assert "wrong" in refused(got, 401, "UNAUTHORIZED") or "not valid" in got.body.decode()
    for field in ("Basic", "Basic !!!!", "Digest x", "Bearer x.y.z", "Negotiate " + "A" * 9000):
        got = client.get("/v2/team/app/tags/list", [("Authorization", field)])
        assert got.status == 401, (field, got)


def test_curl(team):
    """curl sends the password without being asked."""
    def curl(*arguments):
        url = "http://%s:%d/v2/team/app/blobs/uploads/" % team.address
        return subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST",
                               *arguments, url], capture_output=True, text=True, timeout=30,
                              check=True).stdout
    assert curl() == "401"
    assert curl("-u", f"alice:{ALICE}") == "202"
    assert curl("-u", "alice:no") == "401"


def test_limit(team):
    """Ten wrong passwords within a minute: the next ones of that user from that address are
    not looked at, even when right. Other users and addresses are not affected, nor is who
    was let in before."""
    alice, bob = Client(team.address, user=("alice", ALICE)), ("bob", BOB)
    for i in range(10):
        got = Client(team.address, user=("bob", f"wrong {i}")).get("/v2/")
        assert got.status == 401, (i, got)
    got = Client(team.address, user=bob).get("/v2/")
    assert "wrong" in refused(got, 429, "TOOMANYREQUESTS")
    assert 1 <= int(got["Retry-After"]) <= 60
    assert Client(team.address, user=("bob", "wrong again")).get("/v2/").status == 429
    assert alice.get("/v2/").status == 200
    assert Client(team.address).tags("team/app").status == 404
    assert Client(team.address, user=bob, source=ELSEWHERE).get("/v2/").status == 200
    # It was right there: that is remembered, and needs no attempt.
    assert Client(team.address, user=bob).get("/v2/").status == 200


def test_many_users_of_an_address(cachalot, users):
    """Sixty attempts at whatever names, and no more, from one address."""
    daemon = cachalot({}, {**users.options, **rule("team", users="*", allow="pull")})
    crowd = Crowd()
    for i in range(80):
        crowd.add(Client(daemon.address, user=(f"user{i}", "guess")).get, "/v2/")
    statuses = [got.status for got in crowd.join()]
    assert set(statuses) == {401, 429} and statuses.count(401) <= 60
    assert Client(daemon.address, user=("alice", ALICE), source=ELSEWHERE).get("/v2/").status == 200


def test_changed_password_file(team, users, tmp_path):
    """A new password counts from the reload on, the old one and its tokens no more; a user who
    is gone is gone; a file that is wrong changes nothing."""
    alice = Client(team.address, user=("alice", ALICE))
    bob = Client(team.address, user=("bob", BOB))
    tokens = [Client(team.address, token=who.token()) for who in (alice, bob)]
    assert [t.rights("team/app") for t in tokens] == ["lsd", "l"]

    users.set("alice", "changed")
    users.remove("bob")
    assert alice.rights("team/app") == "lsd"
    team.hup()
    changed = Client(team.address, user=("alice", "changed"))
    assert changed.rights("team/app") == "lsd"
    for gone in (alice, bob, *tokens):
        assert gone.get("/v2/").status == 401
    assert Client(team.address, token=changed.token()).rights("team/app") == "lsd"

    users.path.write_text("alice:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n")
    team.hup()
    assert team.metric("reload_failures_total") == 1
    assert changed.rights("team/app") == "lsd"
    with pytest.raises(AssertionError):
        assert "0DPiKuNIrrVmD8IUCuw1hQxNqZc" in team.stderr_path.read_text()


# --- tokens of our own ---

def challenge(answer):
    """The scheme and the parameters of a challenge."""
    scheme, _, rest = answer["WWW-Authenticate"].partition(" ")
    return scheme, dict(re.findall(r'(\w+)="([^"]*)"', rest))


def test_challenge(team):
    """Clients are sent to where they have come to, for a token; those that name no host, or
    send passwords anyway, are told to send a password."""
    def asked(path, fields=(), method="GET"):
        got = Client(team.address).call(method, path, fields=fields)
        assert got.status == 401, got
        return challenge(got)

    here = {"realm": "http://cachalot.lan:5000/-/token", "service": "cachalot"}
    host = ("Host", "cachalot.lan:5000")
    assert asked("/v2/", [host]) == ("Bearer", here)
    assert asked("/v2/team/app/blobs/uploads/", [host], "POST") == (
        "Bearer", {**here, "scope": "repository:team/app:pull,push"})
    assert asked("/v2/", [host, ("X-Forwarded-Proto", "https")]) == (
        "Bearer", {**here, "realm": "https://cachalot.lan:5000/-/token"})
    for other in ("http", "gopher", "https, http", ""):
        assert asked("/v2/", [host, ("X-Forwarded-Proto", other)]) == ("Bearer", here)
    assert asked("/v2/", [("Host", "[::1]:5000")])[1]["realm"] == "http://[::1]:5000/-/token"
    assert asked("http://proxied.lan/v2/", [host])[1]["realm"] == "http://proxied.lan/-/token"
    assert asked("/v2/", [host, ("Authorization", bearer("x"))]) == ("Bearer", here)

    plain = ("Basic", {"realm": "cachalot"})
    assert asked("/v2/", [host, ("Authorization", basic("alice", "no"))]) == plain
    assert asked("/-/token", [host, ("Authorization", basic("alice", "no"))]) == plain
    assert asked("/v2/", [("Host", ".".join(["a" * 60] * 5))]) == plain
    with team.connect() as c:
        c.send(b"GET /v2/ HTTP/1.0\r\n\r\n")
        assert challenge(c.read_response()) == plain
    for bad in ('a"b', "a b", "a\\b", "user@host", "a/b", "a,b"):
        assert Client(team.address).get("/v2/", [("Host", bad)]).status == 400


def test_token(team):
    """Who asks for a token gets one: with a password one of a user, without one of nobody;
    it is good wherever the password was, and opens no more."""
    alice, nobody = Client(team.address, user=("alice", ALICE)), Client(team.address)
    got = alice.get("/-/token?service=cachalot&scope=repository:team/app:pull,push&account=alice"
                    "&scope=repository:%2e%2e:*&client_id=docker&offline_token=true")
    assert got.status == 200 and got["Content-Type"] == "application/json"
    said = json.loads(got.body)
    assert said["token"] == said["access_token"] and said["expires_in"] == 300
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said["issued_at"])
    assert re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", said["token"])

    held = Client(team.address, token=said["token"])
    assert held.get("/v2/").status == 200 and held.rights("team/app") == "lsd"
    assert Client(team.address, token=nobody.token()).rights("team/app") == "lSD"
    assert Client(team.address, token=nobody.token()).get("/v2/").status == 200
    # What podman sends when it has no login.
    assert Client(team.address, user=("", "")).token()
    assert nobody.call("HEAD", "/-/token").status == 200

    for wrong in (("alice", BOB), ("eve", ALICE)):
        refused(Client(team.address, user=wrong).get("/-/token"), 401, "UNAUTHORIZED")
    assert "for a password" in refused(held.get("/-/token"), 401, "UNAUTHORIZED")
    form = b"grant_type=password&username=alice&password=x&service=cachalot"
    got = nobody.call("POST", "/-/token", form)
    assert got.status == 405 and "GET" in got["Allow"]

    def logged():
        return [(x["status"], x.get("user")) for x in team.log_lines()
                if x.get("reference", "").startswith("/-/token")]
    until("all were logged", lambda: len(logged()) == 9)
    assert set(logged()) == {(200, "alice"), (200, None), (401, None), (401, "alice"), (405, None)}


def test_token_of_another(team):
    """A token that is changed anywhere, or of another user's making, is none; after a restart
    all are gone, and clients are told to get another."""
    token = Client(team.address, user=("alice", ALICE)).token()
    until_s, user, seal = token.split(".")
    bob = Client(team.address, user=("bob", BOB)).token().split(".")
    nobody = Client(team.address).token().split(".")
    forged = [f"{until_s}.{b'bob'.hex()}.{seal}", f"{until_s}..{seal}",
              f"{bob[0]}.{user}.{bob[2]}", f"{nobody[0]}.{user}.{nobody[2]}",
              f"{int(until_s, 16) + 1:016x}.{user}.{seal}", token + "0", token[:-1], token.upper(),
              token.replace(".", ""), f"{until_s}.{user}.{'0' * 64}", ".." * 200, "."]
    for text in forged:
        got = Client(team.address, token=text).tags("team/app")
        assert got.status == 401 and challenge(got)[0] == "Bearer", text
    held = Client(team.address, token=token)
    assert held.rights("team/app") == "lsd"
    assert team.stop() == 0
    team.start()
    assert held.tags("team/app").status == 401
    assert Client(team.address, user=("alice", ALICE)).token()


def test_only_where_there_are_passwords(hub, cachalot, users, tmp_path):
    """Neither a daemon without passwords, nor a mirror's listener, nor one with a token server
    gives tokens of its own."""
    daemon = cachalot({HUB: hub.url}, users.options)
    assert daemon.get("/-/token").status == 200
    assert daemon.get("/-/token", mirror=True).status == 404
    assert daemon.stop() == 0
    del daemon.sections["auth"]
    daemon.write_config()
    daemon.start()
    assert daemon.get("/-/token").status == 404
    assert daemon.get("/v2/").status == 200
    # With nothing to hold it against nobody is wrong.
    assert Client(daemon.address, user=("alice", "x")).get("/v2/").status == 200
    assert hub.count() == 0


def test_tls(cachalot, users, witness):
    """Over TLS the way to the token is over TLS."""
    address = ("127.0.0.1", free_port())
    daemon = cachalot({}, {**users.options, **rule("team", users="*", allow="push"),
                           "listener secure": {"role": "registry", "address": "%s:%d" % address,
                                               "tls": "yes", "names": "127.0.0.1"}})
    context = ssl.create_default_context(cadata=daemon.get("/-/setup/ca.crt").body.decode())
    with rawhttp.Connection(address).secure(context, "127.0.0.1") as c:
        c.request("/v2/", fields=[("Host", "%s:%d" % address)])
        got = c.read_response()
        assert challenge(got)[1]["realm"] == "https://%s:%d/-/token" % address
        c.request("/-/token", fields=[("Authorization", basic("alice", ALICE))])
        token = json.loads(c.read_response().body)["token"]
        c.request("/v2/", fields=[("Authorization", bearer(token))])
        assert c.read_response().status == 200


# --- tokens of a token server ---

def token_options(tokens):
    return {"auth": {"token-key": tokens.certificate, "token-realm": tokens.realm,
                     "token-service": "registry.test", "token-issuer": "tokens"}}


@pytest.fixture(params=["RS256", "ES256"])
def signer(closing, tmp_path, request):
    return closing(SigningTokenServer(tmp_path, request.param, users={"ci": "pass"}))


def grant(repository, *actions):
    return {"type": "repository", "name": repository, "actions": list(actions)}


def test_signed_tokens(signer, cachalot):
    """What a token grants for a repository, and nothing else; the challenge says where to get
    one for what is asked."""
    daemon = cachalot({}, token_options(signer))
    got = Client(daemon.address).begin_push("team/app")
    assert challenge(got) == ("Bearer", {"realm": signer.realm, "service": "registry.test",
                                         "scope": "repository:team/app:pull,push"})

    def holder(*granted, name="ci"):
        return Client(daemon.address, token=signer.sign(signer.claims(name, list(granted))))

    for actions, rights in ((("pull",), "lSD"), (("pull", "push"), "lsD"), (("delete",), "LSd"),
                            (("pull", "push", "delete"), "lsd"), (("*",), "lsd")):
        client = holder(grant("team/app", *actions))
        assert client.rights("team/app") == rights, actions
        assert client.rights("team/other") == "LSD"
    assert holder(grant("team/app", "pull"), name=None).rights("team/app") == "lSD"
    assert holder().get("/v2/").status == 200
    assert Client(daemon.address, user=("ci", "pass")).get("/v2/").status == 401


def cpu_s(daemon):
    """What the daemon has taken of the processor so far."""
    fields = Path(f"/proc/{daemon.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_signed_token_for_many(signer, cachalot):
    """A token is checked once for all repositories that are looked through: by the catalog, and
    by a mount that does not say from where. They have what it grants."""
    daemon = cachalot({}, token_options(signer))
    names = [f"r/{i:03}" for i in range(300)]
    data = b'{"schemaVersion":2,"manifests":[]}'
    layer = noise(1000, "in many")
    few = [grant(n, "pull") for n in names[::30]]
    catalog = {"type": "registry", "name": "catalog", "actions": ["*"]}

    def holder(*granted):
        return Client(daemon.address, token=signer.sign(signer.claims("ci", list(granted))))

    for at in range(0, len(names), 100):
        pushing = holder(*(grant(n, "pull", "push") for n in names[at:at + 100]))
        for n in names[at:at + 100]:
            kind = ("Content-Type", OCI["index"])
            assert pushing.call("PUT", f"/v2/{n}/manifests/1", data, [kind]).status == 201
            query = f"blobs/uploads/?digest={digest_of(layer)}"
            assert pushing.call("POST", f"/v2/{n}/{query}", layer).status == 201
    reader = holder(catalog, *few)
    stranger = holder(grant("new", "push", "pull"))
    before_s = cpu_s(daemon)
    for _ in range(20):
        got = reader.get("/v2/_catalog")
        assert json.loads(got.body)["repositories"] == names[::30], got
        got = stranger.call("POST", f"/v2/new/blobs/uploads/?mount={digest_of(layer)}")
        assert got.status == 202, got
    # 12,000 signatures take much longer.
    assert cpu_s(daemon) - before_s < 0.3
    mounting = holder(grant("new", "push", "pull"), *few)
    got = mounting.call("POST", f"/v2/new/blobs/uploads/?mount={digest_of(layer)}")
    assert got.status == 201, got


def test_bad_signed_tokens(signer, cachalot, tmp_path):
    """Expired, not yet valid, for another, of another, not signed at all, or signed in a way
    that makes a secret of a public key: none opens anything, and clients are told to get
    another."""
    daemon = cachalot({}, token_options(signer))
    all_of_it = [grant("team/app", "pull", "push", "delete")]

    def claims(**changes):
        made = {**signer.claims("ci", all_of_it), **changes}
        return {k: v for k, v in made.items() if v is not None}

    good = signer.sign(claims())
    assert Client(daemon.address, token=good).rights("team/app") == "lsd"
    now = claims()["iat"]
    other_directory = tmp_path / "other"
    other_directory.mkdir()
    other = SigningTokenServer(other_directory, signer.algorithm)
    other.close()

    def unsigned(alg):
        head = base64url(json.dumps({"typ": "JWT", "alg": alg}).encode())
        return f"{head}.{base64url(json.dumps(claims()).encode())}"

    secret = signer.certificate.read_bytes()
    public = subprocess.run(["openssl", "x509", "-in", signer.certificate, "-pubkey", "-noout"],
                            capture_output=True, check=True).stdout
    confused = unsigned("HS256")
    bad = {
        "expired": signer.sign(claims(exp=now - 3600)),
        "no end": signer.sign(claims(exp=None)),
        "not yet": signer.sign(claims(nbf=now + 3600)),
        "audience": signer.sign(claims(aud="registry.other")),
        "no audience": signer.sign(claims(aud=None)),
        "issuer": signer.sign(claims(iss="others")),
        "another's": signer.sign(claims(), key=other.key),
        "none": unsigned("none") + ".",
        "None": unsigned("None") + ".",
        "none, signed": signer.sign(claims(), alg="none"),
        "HS256": signer.sign(claims(), alg="HS256"),
        "other algorithm": signer.sign(claims(), alg={"RS256": "ES256", "ES256": "RS256"}[
            signer.algorithm]),
        "critical": signer.sign(claims(), crit=["exp"]),
        "changed": good[:-10] + ("A" if good[-10] != "A" else "B") + good[-9:],
        "cut": good.rsplit(".", 1)[0],
        "empty": "", "dots": "..",
        **{f"HS256 with the key {i}": confused + "." + base64url(
            hmac.new(key, confused.encode(), hashlib.sha256).digest())
           for i, key in enumerate((secret, public, public.strip()))},
    }
    for what, token in bad.items():
        got = Client(daemon.address, token=token).begin_push("team/app")
        assert got.status == 401, (what, got)
        assert challenge(got)[1]["realm"] == signer.realm, what
    reasons = daemon.get("/v2/", fields=[("Authorization", bearer(bad["expired"]))])
    assert "expired" in refused(reasons, 401, "UNAUTHORIZED")


def test_expiry_within_an_upload(closing, tmp_path, cachalot):
    """A token expires while a layer is under way, and is refused for anything new: the upload
    goes on, and ends."""
    signer = closing(SigningTokenServer(tmp_path))
    daemon = cachalot({}, token_options(signer))
    # 60 s is what clocks may differ by: it is good for some seconds more.
    token = signer.sign(signer.claims("ci", [grant("team/app", "pull", "push")], life=-57))
    held = Client(daemon.address, token=token)
    pusher = Pusher(daemon.address, "team/app")
    session = Session(pusher, held.begin_push("team/app"))
    data = noise(300_000, "long")
    half = len(data) // 2
    first = session.call("PATCH", data[:half], held.fields)
    assert first.status == 202
    until("the token has expired", lambda: held.begin_push("team/app").status == 401)
    assert session.call("PATCH", data[half:], held.fields).status == 202
    assert session.put(digest_of(data), fields=held.fields).status == 201
    fresh = Client(daemon.address, token=signer.sign(
        signer.claims("ci", [grant("team/app", "pull")])))
    assert fresh.get(f"/v2/team/app/blobs/{digest_of(data)}").body == data


# --- upstreams that are private ---

SECRET = "acme/secret"
OFFICE = "the office's own password"


@pytest.fixture
def guarded(closing, witness):
    """A registry that gives things to the office's password alone."""
    tokens = closing(TokenServer(users={"office": OFFICE}, anonymous=False))
    hub = closing(GuardedHub(tokens))
    hub.private.add(SECRET)
    hub.item = hub.hold(image.image("secret", (60_000,)), SECRET, "1")
    witness.watch(hub, tokens)
    witness.password("office", OFFICE, tokens)
    return hub


@pytest.fixture
def gate(guarded, cachalot, users, tmp_path):
    """A daemon with the office's password, that gives what it opens to some."""
    secret = tmp_path / "office"
    secret.write_text(OFFICE + "\n")
    secret.chmod(0o600)
    return cachalot(
        {HUB: {"url": guarded.url, "realm-hosts": "%s:%d" % guarded.tokens.address,
               "username": "office", "password-file": secret, "visibility": "private",
               "retries": 0}},
        {**users.options, **rule("everybody", allow="pull push"),
         **rule("secret", users="alice", repositories=f"{HUB}/acme/**"),
         **rule("builds", addresses=ELSEWHERE, repositories=f"{HUB}/acme/*")})


def pull_secret(client, item, path=f"/v2/{HUB}/{SECRET}", query=""):
    got = client.get(f"{path}/manifests/1{query}", ACCEPT)
    if got.status == 200:
        assert got.body == item.data
        for each in item.all_blobs():
            assert client.get(f"{path}/blobs/{each.digest}{query}").body == each.data
    return got


def test_private_upstream(gate, guarded):
    """What only the office's password opens is for those whom the rules let, by the prefix and
    by ns: for nobody else, though it is held; and no password of cachalot's users, nor a
    token of its own, comes to the registry."""
    item = guarded.item
    alice = Client(gate.address, user=("alice", ALICE))
    doors = ((f"/v2/{HUB}/{SECRET}", ""), (f"/{HUB}/v2/{SECRET}", ""), (f"/v2/{SECRET}",
                                                                      f"?ns={HUB}"))
    for client in (alice, Client(gate.address, token=alice.token()),
                   Client(gate.address, source=ELSEWHERE)):
        for path, query in doors:
            assert pull_secret(client, item, path, query).status == 200
    for path, query in doors:
        got = pull_secret(Client(gate.address), item, path, query)
        assert got.status == 401 and challenge(got)[0] == "Bearer"
        got = pull_secret(Client(gate.address, user=("bob", BOB)), item, path, query)
        assert "visibility = private" in refused(got, 403, "DENIED")
        for each in item.all_blobs():
            got = Client(gate.address).get(f"{path}/blobs/{each.digest}{query}")
            assert got.status == 401
    assert alice.get(f"/v2/{HUB}/other/secret/manifests/1").status == 403
    # One copy of each crossed the line.
    for each in item.all_blobs():
        assert guarded.count("GET", each.digest) - len(
            [r for r in guarded.asked("GET", each.digest) if r.status == 401]) == 1


def test_private_upstream_by_its_mirror(gate, guarded):
    """A mirror's clients have no word for cachalot, only for the registry: rules for addresses
    count, those for users do not, and what clients send is not taken for a password here."""
    def ask(source=None, user=None):
        return pull_secret(Client(gate.mirror, source=source, user=user), guarded.item,
                           f"/v2/{SECRET}")
    assert ask(source=ELSEWHERE).status == 200
    assert ask().status == 403
    assert ask(user=("alice", ALICE)).status == 403


def test_private_blobs_are_not_local(gate, guarded):
    """Its layers are not visible in local repositories, nor to be mounted, for anybody."""
    alice = Client(gate.address, user=("alice", ALICE))
    assert pull_secret(alice, guarded.item).status == 200
    gate.wait_idle()
    for each in guarded.item.all_blobs():
        assert gate.holds(each.digest)
        assert alice.call("HEAD", f"/v2/team/app/blobs/{each.digest}").status == 404
        for source in (f"&from={HUB}/{SECRET}", f"&from={SECRET}", ""):
            got = alice.call("POST", f"/v2/team/app/blobs/uploads/?mount={each.digest}{source}")
            assert got.status == 202, got
    got = alice.call("PUT", "/v2/team/app/manifests/1", guarded.item.data,
                     [("Content-Type", guarded.item.media_type)])
    refused(got, 404, "MANIFEST_BLOB_UNKNOWN")


def test_public_upstream(hub, cachalot, users, witness):
    """What is public is for everybody, with a password, a wrong one or none; no upstream is
    shown any of them."""
    witness.watch(hub)
    item = hub.hold(image.image("public", (20_000,)), "library/app", "1")
    daemon = cachalot({HUB: hub.url}, {**users.options, **rule("team", users="*")})
    alice = Client(daemon.address, user=("alice", ALICE))
    for i, client in enumerate((alice, Client(daemon.address), Client(
            daemon.address, user=("alice", "no")), Client(daemon.address, token=alice.token()))):
        path = manifest("library/app", "1" if i % 2 else item.digest)
        assert client.get(path, ACCEPT).body == item.data
        assert client.get(blob("library/app", item.layers[0].digest)).status == 200
    assert {r.fields.get("authorization") for r in hub.asked()} == {None}


# --- what is left behind ---

def test_names_in_the_log(cachalot, users, tmp_path):
    """A user with a name of odd bytes is in the log, on one line, and cannot write others."""
    odd = 'j"o\\e {"a"=1} ünï <b>'
    users.set(odd, BOB)
    daemon = cachalot({}, {**users.options, **rule("team", users="*", allow="pull push")})
    for user, status in (((odd, BOB), 200), ((odd, "no"), 401), (("a\nb", BOB), 401),
                         (('x\r\n{"type":"access"}', BOB), 401)):
        assert Client(daemon.address, user=user).get("/v2/").status == status
    held = Client(daemon.address, token=Client(daemon.address, user=(odd, BOB)).token())
    assert held.begin_push("team/app").status == 202
    lines = daemon.wait_access(5)
    assert [x.get("user", "").encode("latin-1").decode() for x in lines if x["status"] < 400] == [
        odd, odd]
    assert not any("user" in x for x in lines if x["status"] == 401)

    assert daemon.stop() == 0
    daemon.sections["log"]["format"] = "text"
    daemon.sections["cache"]["workers"] = 1  # one that says things in order
    daemon.write_config()
    before = len(daemon.stderr_path.read_bytes().splitlines())
    daemon.start()
    assert Client(daemon.address, user=(odd, BOB)).get("/v2/").status == 200
    assert Client(daemon.address).get("/v2/").status == 401
    assert daemon.stop() == 0
    lines = [x.decode("ascii") for x in daemon.stderr_path.read_bytes().splitlines()[before:]]
    said = [x for x in lines if " access " in x and " GET " in x and "/v2/" in x]
    name = r'j\x22o\x5ce\x20{\x22a\x22=1}\x20\xc3\xbcn\xc3\xaf\x20<b>'
    assert f" access 127.0.0.1 {name} GET - " in said[0] and " 200 " in said[0]
    assert " access 127.0.0.1 - GET - " in said[1] and " 401 " in said[1]


def sent_as(*users):
    """Passwords, and the middles of what Basic makes of them."""
    return [secret for name, password in users
            for secret in (password, basic(name, password).removeprefix("Basic ")[4:-4])]


def test_memory(cachalot, users):
    """Passwords were sent in every way, whole and in parts, right and wrong; afterwards there
    is none in the daemon's memory, nor what they were sent as."""
    daemon = cachalot({}, {**users.options, **rule("team", users="*", allow="pull push")})
    canary = "a canary of 33 bytes, in a target"
    for user in (("alice", ALICE), ("bob", BOB), ("alice", BOB), ("eve", ALICE), ("bob", ALICE)):
        client = Client(daemon.address, user=user)
        client.get("/-/token")
        client.begin_push("team/app")
        client.call("PATCH", "/v2/team/app/blobs/uploads/0", b"x" * 100_000)
    form = f"grant_type=password&username=bob&password={BOB}".encode()
    assert Client(daemon.address).call("POST", "/-/token", form).status == 405
    head = f"GET /v2/ HTTP/1.1\r\nHost: a\r\nAuthorization: {basic('bob', BOB)}\r\n"
    for rest in ("\r\n", "\r\nGET /v2/ HTTP/1.1\r\nAuthorization: " + basic("alice", ALICE),
                 "X: \x01\r\n\r\n"):
        with daemon.connect() as c, daemon.connect() as other:
            c.send(head[:-20].encode())
            other.request("/v2/")
            other.read_response()
            c.send((head[-20:] + rest).encode())
            assert c.read_response().status in (200, 400)
    until("the connections are closed", lambda: daemon.metric("connections") == 1)
    Client(daemon.address).get("/" + canary.replace(" ", "-"))
    check_forgotten(daemon, canary.replace(" ", "-"), *sent_as(
        ("alice", ALICE), ("bob", BOB), ("alice", BOB), ("eve", ALICE)))


def test_memory_of_tls(cachalot, users):
    """The same of what came by TLS, decrypted here, with the body of an upload after it."""
    address = ("127.0.0.1", free_port())
    daemon = cachalot({}, {**users.options, **rule("team", users="*", allow="pull push"),
                           "listener tls": {"address": "%s:%d" % address, "tls": "yes",
                                            "names": "cachalot.test"}})
    trust = ssl.create_default_context(cadata=daemon.get("/-/setup/ca.crt").body.decode())
    fields = [("Host", "cachalot.test"), ("Authorization", basic("alice", ALICE))]
    with rawhttp.Connection(address) as c:
        c.secure(trust, "cachalot.test")
        c.request("/v2/", fields=fields)
        assert c.read_response().status == 200
        c.request("/v2/team/app/blobs/uploads/", "POST", [*fields, ("Content-Length", "0")])
        begun = c.read_response()
        assert begun.status == 202
        data = noise(300_000, "memory")
        place = begun["Location"].split("cachalot.test")[-1].split(":")[-1]
        place = place[place.index("/v2/"):]
        c.request(place, "PATCH", [*fields, ("Content-Length", str(len(data)))])
        c.send(data)
        assert c.read_response().status == 202
    with rawhttp.Connection(address) as c:
        c.secure(trust, "cachalot.test")
        c.request("/v2/", fields=[("Authorization", basic("bob", BOB)), ("X", "\x01")])
        assert c.read_response().status == 400
    until("the connections are closed", lambda: daemon.metric("connections") == 1)
    daemon.get("/a-canary-of-26-characters")
    check_forgotten(daemon, "/a-canary-of-26-characters",
                    *sent_as(("alice", ALICE), ("bob", BOB)))
