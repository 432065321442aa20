"""Payloads that are lent to handlers (guest.HandleLent): memory is reused for the next payload, and never shared."""

from __future__ import annotations

import random

import pytest

import gothreads
from tests.support.modules import MODELS, opened
from tests.support.waiting import together


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_what_is_lent_and_what_is_kept_do_not_meet(model: str) -> None:
    """Payloads that are lent, kept or returned, and strings of exports, which must never change, in a single buffer."""
    chance = random.Random(model)
    kept: dict[bytes, bytes] = {}
    with opened("calls", model, **({"instances": 1} if model == "pool" else {"callers": 1})) as app:
        for _ in range(400):
            payload = chance.randbytes(chance.choice([0, 2, 3, 64, 1000, 4096, 70_000, 262_144, 262_400, 300_000]))
            match chance.choice(["reverse"] * 4 + ["echo", "keep", "remember", "fail", "unknown"]):
                case "reverse":
                    assert app.request("reverse", payload) == payload[::-1]
                case "echo":
                    assert app.request("echo", payload) == payload
                case "keep":
                    kept[app.request("keep", payload)] = payload
                case "remember":
                    text = payload.hex()
                    assert app.exports.same(app.exports.remember(text), text)
                case "fail":
                    with pytest.raises(gothreads.HandlerError, match="one byte"):
                        app.request("reverse", b"1")
                case "unknown":
                    with pytest.raises(gothreads.UnknownExport):
                        app.request("nobody", payload)
        assert all(app.request("kept", number) == payload for number, payload in kept.items())


def test_strings_stay_as_they_were_while_payloads_are_lent() -> None:
    with opened("calls", callers=1) as app:
        texts = {app.exports.remember(f"text {n}"): f"text {n}" for n in range(50)
                 if app.request("reverse", b"abcdefgh") == b"hgfedcba"}
        for _ in range(50):
            app.request("reverse", b"\xff" * 64)
        assert len(texts) == 50
        assert all(app.exports.same(number, text) for number, text in texts.items())


def test_every_caller_has_memory_of_its_own() -> None:
    with opened("calls", callers=4) as app:
        def reverses(seed: int) -> bool:
            chance = random.Random(seed)
            payloads = [chance.randbytes(chance.randrange(2, 5000)) for _ in range(300)]
            return all(app.request("reverse", payload) == payload[::-1] for payload in payloads)
        assert together(*[lambda seed=seed: reverses(seed) for seed in range(8)]) == [True] * 8


@pytest.mark.parametrize("size", [64 << 10, 256 << 10])
def test_the_same_memory_takes_the_next_payload(size: int) -> None:
    """So large payloads create no garbage. (With this GOGC, Go collects a heap of 4 MB.)"""
    with opened("calls", callers=1, env={"GOGC": "12"}) as app:
        payload = bytes(size)

        def grown(handler: str) -> int:
            before: int = app.exports.collections()
            for _ in range(1000):
                app.request(handler, payload)
            return int(app.exports.collections() - before)
        assert grown("reverse") <= 3
        assert grown("echo") > 10
