"""Verifies assertions as a backend would, with PyJWT and the keys that the gate publishes, and tries what must not pass.
Prints one line of JSON: the claims of each, and what passed although it must not.

    assertion.py '{"assertions": ["…"], "jwks": ["http://…/jwks.json"], "issuer": "…", "audience": "…"}'
"""

import base64
import json
import sys

import jwt

WISH = json.loads(sys.argv[1])
NEEDED = ["iss", "sub", "aud", "exp", "iat", "cnf"]
# Seconds since it was sent: whoever brought it may have had more to do.
LEEWAY = 120


def verified(token, key, **other):
    usual = {"algorithms": ["ES256"], "issuer": WISH["issuer"], "audience": WISH["audience"]}
    return jwt.decode(token, key, **{**usual, "leeway": LEEWAY, "options": {"require": NEEDED}, **other})


def encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def forgeries(token, claims, key):
    """Name, token and what else is asked of it."""
    head, body, signature = token.split(".")
    later = encoded({**claims, "exp": claims["exp"] + 3600})
    own = jwt.encode(claims, b"a secret of nobody's, and long enough for it", algorithm="HS256")
    yield "another audience", token, {"audience": "https://elsewhere.test"}
    yield "another issuer", token, {"issuer": "elsewhere"}
    yield "after its end", token, {"leeway": -3600}
    yield "a longer life", f"{head}.{later}.{signature}", {}
    yield "no signature", f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{body}.", {}
    yield "another algorithm", own, {}
    yield "another signature", f"{head}.{body}.{signature[:-4]}AAAA", {}


def main():
    all_claims, passed = [], []
    for url in WISH["jwks"]:
        keys = jwt.PyJWKClient(url)
        for token in WISH["assertions"]:
            key = keys.get_signing_key_from_jwt(token).key
            claims = verified(token, key)
            all_claims.append(claims)
            for name, forged, other in forgeries(token, claims, key):
                try:
                    verified(forged, key, **other)
                    passed.append(name)
                except jwt.InvalidTokenError:
                    pass
    print(json.dumps({"claims": all_claims, "forged": passed}))


main()
