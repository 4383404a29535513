# SPDX-License-Identifier: ISC
"""Registries that ask who is there, and the servers that give out their tokens.

    tokens = TokenServer(users={"me": PASSWORD})
    hub = GuardedHub(tokens)
    ...
    assert tokens.count("GET", "/token") == 1
"""

import base64
import itertools
import json
import time
from urllib.parse import parse_qs

from lib.hub import Answer, Hub, error
from lib.pki import openssl

IDENTITY = "<token>"


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unbasic(value):
    """(name, password) of an Authorization value, or None."""
    if not value.startswith("Basic "):
        return None
    name, _, password = base64.b64decode(value.removeprefix("Basic ")).decode().partition(":")
    return name, password


class TokenServer(Hub):
    """GET /token with Basic or without, POST /token for identity tokens.

    What it gives out is valid until `revoke`; each attribute is a switch.
    """

    serial = itertools.count(1)

    def __init__(self, host="127.0.0.1", tls=None, users=None, identities=(), anonymous=True,
                 port=None):
        super().__init__(host, tls, port)
        self.users = users or {}           # name -> password
        self.identities = set(identities)  # identity tokens
        self.anonymous = anonymous         # whether those without a name get one
        self.life = 300                    # None: expires_in is left out
        self.members = ("token", "access_token")
        self.text = None                   # in place of a made token
        self.answer_body = None            # in place of the JSON
        self.issued = {}                   # good ones: token -> (name or None, [scope])
        self.given = set()                 # all there ever were

    @property
    def realm(self):
        return self.url + "/token"

    def revoke(self):
        """What was given out is good no more."""
        with self.lock:
            self.issued.clear()

    def who(self, request):
        """The name of who asks: None for nobody, False when it is wrong."""
        if request.method == "POST":
            form = parse_qs(request.body.decode())
            good = form.get("refresh_token", [None])[0] in self.identities
            return IDENTITY if good and form["grant_type"] == ["refresh_token"] else False
        value = request.fields.get("authorization")
        if value is None:
            return None if self.anonymous else False
        pair = unbasic(value)
        return pair[0] if pair and self.users.get(pair[0]) == pair[1] else False

    def mint(self, name, scopes):
        return f"eyJ.{next(self.serial)}.{'x' * 400}-_="

    def answer(self, request, f):
        if f.redirect is not None or f.status:
            return super().answer(request, f)
        if not request.path.startswith("/token"):
            return error(404, "NOT_FOUND")
        name = self.who(request)
        if name is False:
            return error(401, "UNAUTHORIZED")
        if request.method == "POST":
            scopes = parse_qs(request.body.decode()).get("scope", [])
        else:
            scopes = [s for n, s in request.pairs if n == "scope"]
        token = self.text or self.mint(name, scopes)
        with self.lock:
            self.issued[token] = (name, scopes)
            self.given.add(token)
        said = {member: token for member in self.members}
        if self.life is not None:
            said["expires_in"] = self.life
        body = json.dumps(said).encode() if self.answer_body is None else self.answer_body
        return Answer(200, [("Content-Type", "application/json")], body)


def raw_signature(der):
    """The two numbers of an ECDSA signature side by side, as RFC 7518 section 3.4 has them."""
    numbers, at = b"", 2
    for _ in range(2):
        length = der[at + 1]
        numbers += int.from_bytes(der[at + 2:at + 2 + length], "big").to_bytes(32, "big")
        at += 2 + length
    return numbers


class SigningTokenServer(TokenServer):
    """Its tokens are JWTs that a docker-registry takes, RS256 or ES256; who has no name may
    pull from `public` alone."""

    NEW_KEY = {"RS256": ("rsa:2048",), "ES256": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")}

    def __init__(self, directory, algorithm="RS256", **options):
        super().__init__(**options)
        self.public = set()
        self.algorithm = algorithm
        self.key, self.certificate = directory / "token.key", directory / "token.pem"
        openssl("req", "-x509", "-newkey", *self.NEW_KEY[algorithm], "-nodes", "-keyout", self.key,
                "-out", self.certificate, "-days", 2, "-subj", "/CN=tokens")

    @property
    def registry_options(self):
        """For the configuration of the docker-registry."""
        return (f"auth: {{token: {{realm: '{self.realm}', service: registry.test, "
                f"issuer: tokens, rootcertbundle: {self.certificate}}}}}\n")

    def mint(self, name, scopes):
        granted = []
        for kind, repository, actions in (scope.split(":") for scope in scopes):
            if name is not None or repository in self.public:
                granted.append({"type": kind, "name": repository, "actions": actions.split(",")})
        return self.sign(self.claims(name, granted))

    def claims(self, name, granted, life=300):
        now = int(time.time())
        return {"iss": "tokens", "sub": name or "", "aud": "registry.test", "iat": now,
                "nbf": now - 1000, "exp": now + life, "jti": str(next(self.serial)),
                "access": granted}

    def sign(self, claims, key=None, **head):
        """A token of these claims; `head` changes what stands before them."""
        lines = self.certificate.read_text().splitlines()[1:-1]
        head = {"typ": "JWT", "alg": self.algorithm, "x5c": ["".join(lines)], **head}
        signed = ".".join(base64url(json.dumps(part).encode()) for part in (head, claims))
        made = openssl("dgst", "-sha256", "-sign", key or self.key, input=signed.encode())
        return signed + "." + base64url(raw_signature(made) if self.algorithm == "ES256" else made)


class GuardedHub(Hub):
    """A registry that serves who has a token of `tokens`, or a name and password of
    `users`; the repositories in `private` want a name."""

    def __init__(self, tokens=None, users=None, host="127.0.0.1", tls=None, port=None):
        super().__init__(host, tls, port)
        self.tokens = tokens
        self.users = users or {}
        self.private = set()
        self.service = "registry.test"
        self.realm = None           # None: the token server's
        self.challenges = None      # None: the usual one; else the fields, formatted
        self.refusal = 401          # status for an Authorization that is not good

    def repository(self, request):
        return request.path.removeprefix("/v2/").rsplit("/", 2)[0].removesuffix("/tags")

    def challenge(self, request):
        scope = f"repository:{self.repository(request)}:pull"
        usual = self.tokens.realm if self.tokens else "Registry Realm"
        realm = usual if self.realm is None else self.realm
        usual = [f'Bearer realm="{realm}",service="{self.service}",scope="{scope}"'
                 if self.tokens else f'Basic realm="{realm}"']
        fields = usual if self.challenges is None else self.challenges
        return [("WWW-Authenticate", text.format(realm=realm, service=self.service, scope=scope))
                for text in fields]

    def admits(self, request):
        value = request.fields.get("authorization", "")
        repository = self.repository(request)
        if self.tokens and value.startswith("Bearer "):
            name, scopes = self.tokens.issued.get(value.removeprefix("Bearer "), (None, []))
            if not any(s.startswith(f"repository:{repository}:") or s in ("*", "aws")
                       for s in scopes):
                return False
            return name is not None or repository not in self.private
        pair = unbasic(value)
        return bool(pair and self.users and self.users.get(pair[0]) == pair[1])

    def answer(self, request, f):
        if f.redirect is None and not f.status and not self.admits(request):
            wrong = "authorization" in request.fields
            refused = error(self.refusal if wrong else 401, "UNAUTHORIZED")
            if refused.status == 401:
                refused.fields += self.challenge(request)
            return refused
        return super().answer(request, f)


class Witness:
    """Sees to it that what is secret came to those servers alone that it is for, and to no
    file of the daemon. Its close() is the check."""

    def __init__(self, directory):
        self.directory = directory
        self.servers = []
        self.passwords = []          # (name, password, servers that may see it)
        self.givers = []             # (token server, servers that may see its tokens)

    def watch(self, *servers):
        self.servers += servers

    def password(self, name, text, *servers):
        self.watch(*servers)
        self.passwords.append((name, text, servers))
        return text

    def tokens(self, giver, *servers):
        self.watch(giver, *servers)
        self.givers.append((giver, servers))

    def secrets(self):
        for name, text, servers in self.passwords:
            yield text, servers
            yield basic(name, text).removeprefix("Basic "), servers
        for giver, servers in self.givers:
            for token in giver.given:
                yield token, servers

    def close(self):
        kept = [p for p in self.directory.rglob("cachalotd*") if p.is_file()]
        kept += [p for p in (self.directory / "cache").rglob("*") if p.is_file()]
        files = {p: p.read_bytes() for p in kept if p.suffix != ".ini"}
        for secret, servers in self.secrets():
            if len(secret) < 8:
                continue  # no token, and found anywhere
            for server in self.servers:
                if server not in servers:
                    for request in server.asked():
                        assert secret not in repr(request), f"{secret} came to {server.url}"
            for path, content in files.items():
                assert secret.encode() not in content, f"{secret} is in {path}"
