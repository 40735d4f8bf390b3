"""The tokens file: what it says, and errors that never repeat what stands there."""

import hashlib
import hmac

import pytest

from gradserve_server.rpc.permissions import Need
from gradserve_server.rpc.tokens import read_tokens
from gradserve_server.settings import SettingsError

SECRET = "tea-for-two-and-two-for-tea"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


@pytest.fixture
def write(tmp_path):
    file = tmp_path / "tokens"

    def write(text):
        file.write_text(text)
        file.chmod(0o600)
        return file

    return write


@pytest.mark.parametrize("token", [SECRET, f"sha256:{DIGEST}", f"sha256:{DIGEST.upper()}"])
def test_a_token_or_its_digest(write, token):
    found = read_tokens(write(f"# who may what\n\n  alice\tinfer,ascend  {token}\n")).find(SECRET)
    assert (found.name, found.permissions) == ("alice", {Need.INFER, Need.ASCEND})


@pytest.mark.parametrize("wrong", ["", SECRET[:-1], SECRET + "x", SECRET.upper(), DIGEST, f"sha256:{DIGEST}", "ü\udcff"])
def test_another_token(write, wrong):
    assert read_tokens(write(f"alice infer sha256:{DIGEST}")).find(wrong) is None


def test_each_finds_its_own(write):
    tokens = read_tokens(write("a infer one-token\nb gradient another-token\nc admin third-token"))
    assert [tokens.find(secret).name for secret in ("one-token", "another-token", "third-token")] == ["a", "b", "c"]


def test_every_entry_is_compared_whoever_is_found(write, monkeypatch):
    tokens = read_tokens(write("a infer one-token\nb gradient another-token\nc admin third-token"))
    compared = []
    equal = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append(one) or equal(one, other))
    for secret in ("one-token", "third-token", "no token"):
        compared.clear()
        tokens.find(secret)
        assert len(compared) == 3


WRONG = {
    "": "expected at least one token, got none",
    "# only a comment": "expected at least one token",
    SECRET: "line 1: expected NAME PERMISSIONS TOKEN, got 1 word$",
    f"alice {SECRET}": "line 1: expected NAME PERMISSIONS TOKEN, got 2 words$",
    f"alice infer, gradient {SECRET}": "line 1: expected NAME PERMISSIONS TOKEN, got 4 words$",
    f"alice {SECRET} infer": "line 1: expected permissions of infer,gradient,ascend,admin",
    f"alice infer,,admin {SECRET}": "line 1: expected permissions",
    f"alice nothing {SECRET}": "line 1: expected permissions",
    "alice infer sha256:1234": "line 1: expected 64 hexadecimal digits after sha256:$",
    f"alice infer sha256:{SECRET}": "line 1: expected 64 hexadecimal digits",
    f"# first\nalice infer {SECRET}\nbob infer sha256:{DIGEST}": "line 3: expected another token than in line 2$",
    f"alice infer {SECRET}\nalice infer {SECRET}x": "line 2: expected another name than in line 1$",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_file_that_is_wrong(write, text):
    with pytest.raises(SettingsError, match=WRONG[text]) as error:
        read_tokens(write(text))
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match="tokens: No such file"):
        read_tokens(tmp_path / "tokens")


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "tokens").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="expected UTF-8"):
        read_tokens(tmp_path / "tokens")


@pytest.mark.parametrize(
    ("mode", "token", "warns"), [(0o644, SECRET, True), (0o640, SECRET, False), (0o644, f"sha256:{DIGEST}", False)]
)
def test_tokens_that_every_user_may_read(write, caplog, mode, token, warns):
    file = write(f"alice infer {token}")
    file.chmod(mode)
    read_tokens(file)
    assert [f"{file}: every user" in record.getMessage() for record in caplog.records] == [True] * warns


def test_nothing_shows_a_token(write):
    token = read_tokens(write(f"alice infer {SECRET}")).find(SECRET)
    assert SECRET not in repr(token)
    assert repr(token.digest) not in repr(token)
