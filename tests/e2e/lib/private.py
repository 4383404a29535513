# SPDX-License-Identifier: ISC
"""A registry some of whose repositories are for some clients alone."""

from lib.hub import Hub, error


class PrivateHub(Hub):
    """Some repositories are open to some credentials alone."""

    def __init__(self, tokens):
        self.accepted = {}       # repository -> the Authorization values that open it
        self.tokens = tokens
        super().__init__()

    def challenge(self, repository):
        return (f'Bearer realm="{self.tokens.realm}",service="hub",'
                f'scope="repository:{repository}:pull"')

    def answer(self, request, f):
        repository = request.path.removeprefix("/v2/").rsplit("/", 2)[0]
        allowed = self.accepted.get(repository)
        if allowed is not None and request.fields.get("authorization") not in allowed:
            refused = error(401, "UNAUTHORIZED")
            refused.fields.append(("WWW-Authenticate", self.challenge(repository)))
            return refused
        return super().answer(request, f)
