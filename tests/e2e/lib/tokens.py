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
from urllib.parse import parse_qs

from lib.hub import Answer, Hub, error

IDENTITY = "<token>"


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


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

    def __init__(self, host="127.0.0.1", tls=None, users=None, identities=(), anonymous=True):
        super().__init__(host, tls)
        self.users = users or {}           # name -> password
        self.identities = set(identities)  # identity tokens
        self.anonymous = anonymous         # whether those without a name get one
        self.life = 300                    # None: expires_in is left out
        self.members = ("token", "access_token")
        self.text = None                   # in place of a made token
        self.answer_body = None            # in place of the JSON
        self.issued = {}                   # token -> (name or None, [scope])

    @property
    def realm(self):
        return self.url + "/token"

    def revoke(self):
        """What was given out is good no more."""
        with self.lock:
            self.issued.clear()

    def tokens(self):
        with self.lock:
            return list(self.issued)

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
        token = self.text or f"eyJ.{next(self.serial)}.{'x' * 400}-_="
        with self.lock:
            self.issued[token] = (name, scopes)
        said = {member: token for member in self.members}
        if self.life is not None:
            said["expires_in"] = self.life
        body = json.dumps(said).encode() if self.answer_body is None else self.answer_body
        return Answer(200, [("Content-Type", "application/json")], body)


class GuardedHub(Hub):
    """A registry that serves who has a token of `tokens`, or a name and password of
    `users`; the repositories in `private` want a name."""

    def __init__(self, tokens=None, users=None, host="127.0.0.1", tls=None):
        super().__init__(host, tls)
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
        realm = self.realm or (self.tokens.realm if self.tokens else "Registry Realm")
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
