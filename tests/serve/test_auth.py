"""API keys, tokens, rights, and pages of other sites that are allowed."""

from __future__ import annotations

import asyncio
import datetime
import hmac
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.responses import PlainTextResponse

import gothreads
from gothreads.errors import MisuseError
from gothreads.serve import api_keys, guard, tokens
from gothreads.serve.auth import Authority
from gothreads.serve.identity import Identity, check_rights
from gothreads.serve.web import guarded
from tests.support.command_line import command
from tests.support.keys import Keys, bearer
from tests.support.web import ask, talk


@pytest.fixture(scope="module")
def shared(calls: Path) -> Iterator[gothreads.App]:
    with gothreads.open(calls) as opened:
        yield opened


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.txt")


def post(app: Any, path: str, headers: Any = None, **options: Any) -> httpx.Response:
    reply: list[httpx.Response] = []

    async def once(client: httpx.AsyncClient) -> None:
        reply.append(await client.post(path, headers=headers, json={"args": [2, 3]} if "/call/add" in path else None))
    talk(app, once, **options)
    return reply[0]


def test_calls_need_a_key_and_do_what_it_allows(shared: gothreads.App, keys: Keys) -> None:
    everything, adds = keys.new("admin"), keys.new("ci", "call/ad*", "signal/*")
    secured = {"api_keys": keys.path}
    for path in ("/api/call/add", "/api/request/upper", "/api/signal/nothing", "/api/call/nothing"):
        for headers in (None, bearer(""), bearer("gtk_wrong"), bearer(everything["Authorization"][7:] + "x"),
                        {"Authorization": "Basic eDp5"}, [*everything.items(), *adds.items()]):
            reply = post(shared, path, headers, **secured)
            assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer"), (path, headers)
            assert reply.json().keys() == {"error"}
    assert post(shared, "/api/call/add", everything, **secured).json() == {"result": 5}
    assert post(shared, "/api/request/upper", everything, **secured).status_code == 200
    assert post(shared, "/api/call/add", adds, **secured).json() == {"result": 5}
    for path, what in (("call/count", "'call/count'"), ("request/upper", "'request/upper'"), ("call/x", "'call/x'")):
        reply = post(shared, f"/api/{path}", adds, **secured)
        assert (reply.status_code, reply.json()) == (403, {"error": f"ci has no right to {what}"})
    assert post(shared, "/api/signal/nothing", adds, **secured).status_code == 404


def test_what_needs_no_key_tells_nothing_of_the_module(shared: gothreads.App, keys: Keys) -> None:
    key, metrics = keys.new("ci", "call/add"), keys.new("prometheus", "metrics")

    async def conversation(client: httpx.AsyncClient) -> None:
        for path in ("/livez", "/readyz", "/healthz", "/"):
            reply = await client.get(path)
            assert reply.status_code == 200
            assert "upper" not in re.sub(r"<(style|script)>.*?</\1>", "", reply.text, flags=re.DOTALL)
        assert (await client.get("/healthz")).json() == {"state": "running"}
        for path in ("/api/exports", "/openapi.json", "/metrics"):
            assert (await client.get(path)).status_code == 401
        for path in ("/api/exports", "/openapi.json", "/"):
            assert "upper" in (await client.get(path, headers=key)).text
        assert (await client.get("/", headers=bearer("gtk_wrong"))).status_code == 401
        assert (await client.get("/metrics", headers=key)).status_code == 403
        assert (await client.get("/metrics", headers=metrics)).status_code == 200
        locked = (await client.get("/")).text
        assert '<form id="key">' in locked
        assert "<form data-path" not in locked
        for place in ("api/exports", "openapi.json"):  # a link would lead there without the key
            assert f'<a href="{place}"' not in (await client.get("/", headers=key)).text
    talk(shared, conversation, api_keys=keys.path)
    for place in ("api/exports", "openapi.json"):
        assert f'<a href="{place}">/{place}</a>' in ask(shared, "GET", "/").text


def test_the_module_is_not_asked_by_those_who_may_not(keys: Keys, calls: Path) -> None:
    keys.new("ci")
    with gothreads.open(calls) as app:
        assert post(app, "/api/call/exits", api_keys=keys.path).status_code == 401
        assert app.statistics().calls == 0


def test_a_key_is_compared_with_all_lines_by_their_hashes(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that neither how long it takes, nor the file, tells anything about a key."""
    made = [keys.new(f"name{number}") for number in range(5)]
    text = keys.path.read_text()
    assert not any(key["Authorization"][11:] in text for key in made)
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)
    monkeypatch.setattr(hmac, "compare_digest", noting)
    for at in (0, 4):
        found = api_keys.ApiKeys(keys.path).of_key(made[at]["Authorization"][7:])
        assert found is not None
        assert found.name == f"name{at}"
    assert api_keys.ApiKeys(keys.path).of_key("gtk_x") is None
    assert len(compared) == 15
    assert {len(each) for pair in compared for each in pair} == {32}


def test_a_key_has_256_bits_and_its_file_is_for_its_owner_alone(keys: Keys) -> None:
    made = {keys.new("ci")["Authorization"][7:] for _ in range(2)}
    assert len(made) == 2
    assert all(re.fullmatch(r"gtk_[\w-]{43}", key) for key in made)
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert len(keys.path.read_text().splitlines()) == 2


def test_a_line_that_is_removed_is_refused_at_once(shared: gothreads.App, keys: Keys,
                                                   caplog: pytest.LogCaptureFixture) -> None:
    first, second = keys.new("first"), keys.new("second")

    async def conversation(client: httpx.AsyncClient) -> None:
        async def status(key: dict[str, str]) -> int:
            return (await client.post("/api/call/count", headers=key)).status_code
        assert (await status(first), await status(second)) == (200, 200)
        keys.path.write_text(keys.path.read_text().splitlines()[1])
        assert (await status(first), await status(second)) == (401, 200)
        third = keys.new("third")  # the last line has no end
        assert (await status(third), await status(second)) == (200, 200)
        assert caplog.text == ""
        good = keys.path.read_text()
        keys.path.write_text(f"{good.splitlines()[1]}\nnonsense\n")
        assert (await status(second), await status(third)) == (401, 200)
        assert f"{keys.path}, line 2: expected a name, a hash and rights" in caplog.text
        keys.path.unlink()
        assert (await status(second), await status(third)) == (401, 401)
        assert "are gone" in caplog.text
        keys.path.write_text(good)
        assert (await status(second), await status(third)) == (200, 200)
        keys.path.unlink()
        assert (await status(second), await status(third)) == (401, 401)
        assert caplog.text.count("are gone") == 2  # each time, but not for each request
    with caplog.at_level(logging.WARNING, "gothreads.serve"):
        talk(shared, conversation, api_keys=keys.path)


def test_a_line_that_was_removed_while_the_file_could_not_be_read_is_refused_when_it_can(
        keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (keys.new(name)["Authorization"][7:] for name in ("first", "second"))
    known = api_keys.ApiKeys(keys.path)
    keys.path.write_text(keys.path.read_text().splitlines()[1])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_, **__: os.read(-1, 1))  # OSError
        assert known.of_key(first) is not None
        assert known.of_key(second) is not None
    assert known.of_key(first) is None  # although the file has not changed since
    assert known.of_key(second) is not None


@pytest.mark.parametrize(("right", "may", "may_not"), [
    ("call/*", "call/add", "request/add"), ("*/add", "signal/add", "call/add2"), ("call/a?d", "call/a?d", "call/add"),
    ("call/a[d]d", "call/a[d]d", "call/add"), ("*", "metrics", None),
    ("restart", "restart", "metrics"), ("*", "restart", None), ("*/*", "call/restart", "restart")])
def test_of_a_rights_characters_only_the_star_is_special(right: str, may: str, may_not: str | None) -> None:
    identity = Identity("key", "ci", check_rights("", [right]))
    assert identity.may(may)
    assert may_not is None or not identity.may(may_not)


@pytest.mark.parametrize(("line", "why"), [
    ("ok certificate call/add", "there is a line for the certificate ok already"),
    (f"ci sha256:{'0' * 64} call/#add", "'call/' is not a right"),
    ("ci", "expected a name, a hash and rights"),
    ("ci/x sha256:00 *", "expected a name, a hash and rights"),
    ("ci sha256:00 *", "is not a hash"),
    ("ci gtk_abc *", "is not a hash"),
    (f"ci sha256:{'0' * 64}", "there are no rights"),
    (f"ci sha256:{'0' * 64} add", "'add' is not a right"),
    ("ci certificate call/", "'call/' is not a right"),
])
def test_a_line_that_is_wrong_is_told_with_its_number(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# keys\n\nok certificate *\n{line}\n")
    with pytest.raises(MisuseError) as error:
        gothreads.asgi("nothing.wasm", api_keys=path)
    assert f"{path}, line 4: " in str(error.value)
    assert why in str(error.value)


def test_without_the_file_nothing_is_served(tmp_path: Path) -> None:
    code, _, said = command("serve", "--api-keys", tmp_path / "none", "nothing.wasm")
    assert code == 1
    assert f"gothreads keys new NAME --file {tmp_path}/none" in said


# Tokens.

ISSUER, AUDIENCE = "https://id.example.org/", "gothreads"
RSA, EC, ED = (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1()),
               ed25519.Ed25519PrivateKey.generate())


def token(key: Any = EC, algorithm: str = "ES256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    now = datetime.datetime.now(datetime.UTC)
    all_claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "someone", "exp": now + datetime.timedelta(minutes=5),
                  "scope": "openid call/add", **claims}
    return jwt.encode({name: value for name, value in all_claims.items() if value is not None}, key, algorithm, headers)


def pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def secured(path: Path, content: bytes, **more: Any) -> dict[str, Any]:
    path.write_bytes(content)
    return {"jwt_keys": path, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, **more}


@pytest.mark.parametrize(("key", "algorithm"), [
    (RSA, "RS256"), (RSA, "PS512"), (EC, "ES256"), (ED, "EdDSA")])
def test_a_token_of_the_issuer_has_the_rights_that_it_says(shared: gothreads.App, tmp_path: Path, key: Any,
                                                           algorithm: str) -> None:
    options = secured(tmp_path / "key", pem(key))
    mine = bearer(token(key, algorithm))
    assert post(shared, "/api/call/add", mine, **options).json() == {"result": 5}
    reply = post(shared, "/api/call/count", mine, **options)
    assert (reply.status_code, reply.json()) == (403, {"error": "someone has no right to 'call/count'"})


PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(("claims", "why"), [
    ({"exp": PAST}, "expired"), ({"exp": None}, '"exp" claim'), ({"iss": "https://else.example/"}, "issuer"),
    ({"iss": None}, '"iss" claim'), ({"aud": "another service"}, "Audience"), ({"aud": None}, '"aud" claim'),
    ({"sub": None}, '"sub" claim'), ({"nbf": datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)}, "not yet valid"),
    ({"scope": 5}, "the claim scope has no rights"), ({"scope": [5]}, "the claim scope has no rights"),
])
def test_a_token_with_other_claims_is_refused(shared: gothreads.App, tmp_path: Path, claims: dict[str, Any],
                                              why: str) -> None:
    reply = post(shared, "/api/call/add", bearer(token(**claims)), **secured(tmp_path / "key", pem(EC)))
    assert reply.status_code == 401
    assert why in reply.json()["error"]


def test_scopes_that_are_no_rights_give_none(shared: gothreads.App, tmp_path: Path) -> None:
    mine = bearer(token(scope="openid [a-z]* *:read c*l/add"))
    assert post(shared, "/api/call/add", mine, **secured(tmp_path / "key", pem(EC))).status_code == 403


def test_what_a_token_says_is_not_echoed_as_it_is(shared: gothreads.App, tmp_path: Path) -> None:
    for crit in ("\ud800", "x" * 15_000):
        head = jwt.utils.base64url_encode(json.dumps({"alg": "ES256", "crit": [crit], crit: 1}).encode()).decode()
        reply = post(shared, "/api/call/add", bearer(f"{head}.e30.AAAA"), **secured(tmp_path / "key", pem(EC)))
        assert reply.status_code == 401
        assert len(reply.json()["error"]) < 500


def test_a_token_with_another_signature_is_refused(shared: gothreads.App, tmp_path: Path) -> None:
    options = secured(tmp_path / "key", pem(RSA))
    mine = token(RSA, "RS256")
    head, body, signature = mine.split(".")
    forged = [
        token(rsa.generate_private_key(65537, 2048), "RS256"), token(EC, "ES256"),
        jwt.encode(jwt.decode(mine, options={"verify_signature": False}), "", "none"),
        f"{head}.{body}.", f"{head}.{body}", f"{head}.{body}.{signature[:-4]}AAAA", "", "a.b.c", "x" * 10_000,
        # Signed with the public key, as if that were a secret: PyJWT itself would not sign so.
        forged_with_public_key(pem(RSA), body)]
    for each in forged:
        reply = post(shared, "/api/call/add", bearer(each), **options)
        assert reply.status_code == 401, each
    assert post(shared, "/api/call/add", bearer(mine), **options).status_code == 200


def forged_with_public_key(public: bytes, body: str) -> str:
    head = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()).decode()
    signature = hmac.digest(public, f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{jwt.utils.base64url_encode(signature).decode()}"


def test_keys_of_a_set_are_told_apart_by_their_ids(shared: gothreads.App, tmp_path: Path) -> None:
    def member(key: Any, algorithm: Any, name: str) -> dict[str, Any]:
        return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "use": "sig"}
    ecs, rsas = jwt.algorithms.ECAlgorithm, jwt.algorithms.RSAAlgorithm
    found = {"keys": [{**member(RSA, rsas, "a"), "alg": "RS256"}, member(EC, ecs, "b")]}
    options = secured(tmp_path / "keys", json.dumps(found).encode(), jwt_rights="rights")
    for each, status in [(token(RSA, "RS256", {"kid": "a"}, rights=["call/*"]), 200),
                         (token(EC, "ES256", {"kid": "b"}, rights=["call/add"]), 200),
                         (token(EC, "ES256", {"kid": "a"}, rights=["*"]), 401),
                         (token(RSA, "RS512", {"kid": "a"}, rights=["*"]), 401),
                         (token(EC, "ES256", {"kid": "c"}, rights=["*"]), 401), (token(EC, "ES256", rights=["*"]), 401),
                         (token(EC, "ES256", {"kid": "b"}), 403)]:
        assert post(shared, "/api/call/add", bearer(each), **options).status_code == status


def test_keys_and_tokens_go_together(shared: gothreads.App, tmp_path: Path, keys: Keys) -> None:
    key = keys.new("ci", "call/count")
    options = {**secured(tmp_path / "jwt", pem(EC)), "api_keys": keys.path}
    assert post(shared, "/api/call/count", key, **options).status_code == 200
    assert post(shared, "/api/call/add", bearer(token()), **options).status_code == 200
    assert post(shared, "/api/call/add", bearer("gtk_wrong"), **options).json() == {"error": "the API key is unknown"}
    assert post(shared, "/api/call/add", **options).status_code == 401


@pytest.mark.parametrize(("content", "why"), [
    (b"", "has neither a public key (PEM) nor a set of keys (JWKS)"), (b"\xff", "has neither"), (b"{}", "has neither"),
    (b'{"keys": []}', "has neither"), (b'{"keys": [1]}', "has neither"), (b'{"keys": 1}', "has neither")])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(MisuseError) as error:
        gothreads.asgi("nothing.wasm", **secured(tmp_path / "keys", content))
    assert why in str(error.value)


def test_a_token_for_anybody_cannot_be_asked_for(tmp_path: Path) -> None:
    options = secured(tmp_path / "keys", pem(EC))
    for missing in ("jwt_issuer", "jwt_audience", "jwt_keys"):
        with pytest.raises(MisuseError, match="belong together"):
            gothreads.asgi("nothing.wasm", **{name: value for name, value in options.items() if name != missing})


# What is told about it.

def test_openapi_says_what_is_needed(shared: gothreads.App, tmp_path: Path, keys: Keys) -> None:
    key = keys.new("ci")
    both = {**secured(tmp_path / "jwt", pem(EC)), "api_keys": keys.path}
    for options, schemes in (({"api_keys": keys.path}, ["key"]), (both, ["key", "token"]), ({}, [])):
        found: list[Any] = []

        async def get(client: httpx.AsyncClient, found: list[Any] = found) -> None:
            found.append((await client.get("/openapi.json", headers=key)).json())
        talk(shared, get, **options)
        document = found[0]
        OpenAPIV31SpecValidator(document).validate()
        assert [*document["components"].get("securitySchemes", {})] == schemes
        assert document.get("security", []) == [{name: []} for name in schemes]
        add, live = document["paths"]["/api/call/add"]["post"], document["paths"]["/livez"]["get"]
        assert ("401" in add["responses"], live.get("security")) == (bool(schemes), [] if schemes else None)
        assert "429" in add["responses"]


def test_refusals_are_counted(shared: gothreads.App, keys: Keys) -> None:
    key = keys.new("ci", "call/add", "metrics")

    async def conversation(client: httpx.AsyncClient) -> None:
        await client.post("/api/call/add")
        await client.post("/api/call/count", headers=key)
        text = (await client.get("/metrics", headers=key)).text
        assert 'name="add",outcome="denied"} 1' in text
        assert 'name="count",outcome="denied"} 1' in text
    talk(shared, conversation, api_keys=keys.path)


# Limits by key.

def test_a_limit_is_of_a_key_wherever_it_is_used(keys: Keys, calls: Path) -> None:
    one, other = keys.new("one"), keys.new("other")
    with gothreads.open(calls) as app:
        async def conversation(client: httpx.AsyncClient) -> None:
            hangs = asyncio.create_task(client.post("/api/call/sleep", json={"args": [20_000]}, headers=one))
            while app.statistics().calls_in_progress == 0:
                await asyncio.sleep(0.01)
            assert (await client.post("/api/call/count", headers=one)).status_code == 429
            assert (await client.post("/api/call/count", headers=other)).status_code == 200
            hangs.cancel()
            await asyncio.wait([hangs])
            assert (await client.post("/api/call/count", headers=one)).status_code == 200
        talk(app, conversation, api_keys=keys.path, max_client_calls=1)


# Pages of other sites.

SITE = "https://app.example.org"


def test_pages_of_sites_that_are_allowed_may_call(shared: gothreads.App, keys: Keys) -> None:
    key = keys.new("ci")
    from_page = {"Origin": SITE, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}

    async def conversation(client: httpx.AsyncClient) -> None:
        asked = await client.options("/api/call/add", headers={
            **from_page, "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type"})
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == SITE
        assert "Authorization" in asked.headers["access-control-allow-headers"]
        reply = await client.post("/api/call/add", json={"args": [2, 3]}, headers={**from_page, **key})
        assert (reply.json(), reply.headers["access-control-allow-origin"]) == ({"result": 5}, SITE)
        assert "X-Request-ID" in reply.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in reply.headers
        refused = await client.post("/api/call/add", headers=from_page)  # it can read why
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, SITE)
        for other in ("https://evil.example", "http://app.example.org", "null", f"{SITE}:444", f"{SITE}.evil.example"):
            headers = {**from_page, "Origin": other, **key}
            reply = await client.post("/api/call/add", json={"args": [2, 3]}, headers=headers)
            assert reply.status_code == 403
            assert "access-control-allow-origin" not in reply.headers
            asked = await client.options("/api/call/add", headers={**headers, "Access-Control-Request-Method": "POST"})
            assert asked.status_code == 403
            assert "access-control-allow-origin" not in asked.headers
    talk(shared, conversation, api_keys=keys.path, allow_origins=[SITE])


def test_what_a_page_asks_beforehand_is_answered_under_the_servers_names_only(shared: gothreads.App) -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE"):  # those of routes in a file
            asks = {"Origin": SITE, "Access-Control-Request-Method": method}
            assert (await client.options("/x", headers=asks)).status_code == 200
            assert (await client.options("/x", headers={**asks, "Host": "evil.example"})).status_code == 421
    talk(shared, conversation, allow_origins=[SITE])


def test_a_page_that_is_allowed_can_read_that_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    held = guard.Held()
    web = guarded(PlainTextResponse("x" * 1000), guard.Hosts(), held, access_log=False, allow_origins=[SITE])

    async def conversation() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://localhost") as client:
            with held.answer(1000):
                reply = await client.get("/", headers={"Origin": SITE})
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (503, SITE)
        assert "Retry-After" in reply.headers["access-control-expose-headers"]
    monkeypatch.setattr(guard, "SMALL", 500)
    monkeypatch.setattr(guard, "MOST_HELD", 1000)
    asyncio.run(conversation())


def test_files_of_keys_are_parsed_once_at_the_start(keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.new("ci")
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = tmp_path / "key.pem"
    pem.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    parsed: list[str] = []
    for module, name in ((api_keys, "_add"), (tokens, "_of_pem")):
        def noting(*given: Any, name: str = name, parse: Any = getattr(module, name)) -> Any:
            parsed.append(name)
            return parse(*given)
        monkeypatch.setattr(module, name, noting)
    go = gothreads.asgi("nothing.wasm", api_keys=keys.path, jwt_keys=pem, jwt_issuer="x", jwt_audience="y")
    Authority.of(go._options)
    assert parsed == ["_add", "_of_pem"]


@pytest.mark.parametrize("origin", ["*", "app.example.org", "https://app.example.org/", "https://App.example.org",
                                    "https://a.example/x", "null", "", 5])
def test_origins_are_named_exactly(origin: Any) -> None:
    with pytest.raises(MisuseError, match="is not an origin"):
        gothreads.asgi("nothing.wasm", allow_origins=[origin])
