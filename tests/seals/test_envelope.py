"""Envelopes and keys: what is signed, what is refused, and what a key file is like."""

import json
import stat
from base64 import b64decode, b64encode, urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from byrote.cli import main
from byrote.errors import Incomplete, StoreError
from byrote.seals import envelope
from byrote.seals.envelope import PASSPHRASE, keyid, new_key, opened, pae, read_key, read_public, sign
from byrote.seals.statement import PREDICATE, STATEMENT

from . import sealed

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TOLD = {"_type": STATEMENT, "subject": [], "predicateType": PREDICATE, "predicate": {"certified": 3}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return sealed.make(tmp_path_factory.mktemp("sealed"))


@pytest.fixture
def folder(made, tmp_path):
    return made.copy(tmp_path)


def test_the_encoding_that_is_signed_is_that_of_the_published_test_vector():
    """secure-systems-lab/dsse, protocol.md, "Test vectors"."""
    assert (
        pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(st.text(), st.binary(), st.text(), st.binary())
def test_two_different_things_never_have_the_same_encoding(a, b, c, d):
    a, c = (text.encode(errors="replace").decode() for text in (a, c))
    assert (pae(a, b) == pae(c, d)) == ((a, b) == (c, d))


def test_what_was_signed_is_read_back():
    assert opened(json.loads(json.dumps(sign(TOLD, KEY))), KEY.public_key()) == (TOLD, None)


def test_the_envelope_has_the_fields_of_the_protocol():
    told = sign(TOLD, KEY)
    assert set(told) == {"payload", "payloadType", "signatures"}
    assert told["payloadType"] == "application/vnd.in-toto+json"
    signature = b64decode(told["signatures"][0]["sig"])
    KEY.public_key().verify(signature, pae(told["payloadType"], b64decode(told["payload"])))


def test_a_changed_payload_another_key_and_another_type_are_no_fit():
    told = sign(TOLD, KEY)
    other = b64encode(json.dumps(TOLD | {"predicate": {}}).encode()).decode()
    assert opened(told | {"payload": other}, KEY.public_key())[1]
    assert opened(told, Ed25519PrivateKey.generate().public_key())[1]
    with pytest.raises(ValueError, match="no statement"):
        opened(told | {"payloadType": "text/plain"}, KEY.public_key())


def test_one_signature_of_the_key_is_enough_and_its_name_decides_nothing():
    """DSSE: keyid is a hint; a verifier takes an envelope that anyone it knows has signed."""
    told, other = sign(TOLD, KEY), sign(TOLD, Ed25519PrivateKey.generate())
    mine, theirs = told["signatures"][0], other["signatures"][0]
    forged = {"keyid": mine["keyid"], "sig": theirs["sig"]}
    for signatures in ([theirs, mine], [forged, mine], [{"sig": mine["sig"]}], [mine | {"keyid": "my key"}]):
        assert opened(told | {"signatures": signatures}, KEY.public_key())[1] is None
    assert opened(told | {"signatures": [forged]}, KEY.public_key())[1]


def test_base64_of_both_alphabets_is_read():
    told = sign(TOLD | {"predicate": {"?": "~~~???>>>\u00ff"}}, KEY)
    payload = urlsafe_b64encode(b64decode(told["payload"])).decode()
    sig = urlsafe_b64encode(b64decode(told["signatures"][0]["sig"])).decode()
    assert opened(told | {"payload": payload, "signatures": [{"sig": sig}]}, KEY.public_key())[1] is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("payload", "payloadType", "signatures", "more"), JSON)) | JSON)
def test_whatever_is_no_envelope_is_a_value_error_and_nothing_else(told):
    with pytest.raises(ValueError, match=r"no DSSE envelope|no statement|no JSON"):
        opened(told, KEY.public_key())


@given(st.binary(max_size=200))
def test_whatever_payload_is_inside_is_a_value_error_or_an_object(payload):
    told = {"payload": b64encode(payload).decode(), "payloadType": envelope.PAYLOAD, "signatures": [{"sig": ""}]}
    try:
        inside = json.loads(payload)
    except ValueError:
        inside = None
    if isinstance(inside, dict):
        assert opened(told, None) == (inside, None)
    else:
        with pytest.raises(ValueError, match=r"no JSON|no statement"):
            opened(told, None)


def test_a_file_larger_than_any_envelope_is_not_read(tmp_path):
    (tmp_path / "huge").write_bytes(b" " * (envelope.LARGEST + 1))
    with pytest.raises(ValueError, match="larger"):
        envelope.read(tmp_path / "huge")


def test_a_new_key_is_for_its_owner_alone_and_its_public_half_for_all(tmp_path):
    key = new_key(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert b"PRIVATE" not in (tmp_path / "key.pub").read_bytes()
    assert keyid(read_key(tmp_path / "key").public_key()) == keyid(read_public(tmp_path / "key.pub"))
    assert keyid(read_public(tmp_path / "key")) == keyid(key.public_key())


@pytest.mark.parametrize("there", ["key", "key.pub"])
def test_a_new_key_overwrites_nothing(tmp_path, there):
    (tmp_path / there).write_text("mine")
    with pytest.raises(StoreError, match="leave out --new-key"):
        new_key(tmp_path / "key")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_new_key_follows_no_link(tmp_path):
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        new_key(tmp_path / "key")
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_where_nothing_can_be_written_is_told(tmp_path):
    with pytest.raises(StoreError, match="cannot be written"):
        new_key(tmp_path / "no" / "folder" / "key")


def test_a_passphrase_of_the_environment_locks_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSPHRASE, "p\u00e4ss")
    key = new_key(tmp_path / "key")
    assert b"ENCRYPTED" in (tmp_path / "key").read_bytes()
    assert keyid(read_key(tmp_path / "key").public_key()) == keyid(key.public_key())
    monkeypatch.setenv(PASSPHRASE, "wrong")
    with pytest.raises(StoreError, match="no private key that can be read"):
        read_key(tmp_path / "key")
    for empty in (lambda: monkeypatch.setenv(PASSPHRASE, ""), lambda: monkeypatch.delenv(PASSPHRASE)):
        empty()
        with pytest.raises(StoreError, match=PASSPHRASE):
            read_key(tmp_path / "key")
    assert keyid(read_public(tmp_path / "key.pub")) == keyid(key.public_key())


def test_a_passphrase_that_is_no_unicode_or_too_long_is_no_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSPHRASE, "\udcff\udcfe")
    key = new_key(tmp_path / "key")
    assert keyid(read_key(tmp_path / "key").public_key()) == keyid(key.public_key())
    monkeypatch.setenv(PASSPHRASE, "x" * 5000)
    with pytest.raises(StoreError, match="passphrase"):
        new_key(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_passphrase_for_a_key_without_one_is_told(tmp_path, monkeypatch):
    new_key(tmp_path / "key")
    monkeypatch.setenv(PASSPHRASE, "pass")
    with pytest.raises(StoreError, match=f"{PASSPHRASE} is for the passphrase"):
        read_key(tmp_path / "key")


def test_a_key_of_another_kind_is_refused(tmp_path):
    key = rsa.generate_private_key(65537, 2048)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "rsa").write_bytes(private)
    (tmp_path / "rsa.pub").write_bytes(public)
    for read, name in ((read_key, "rsa"), (read_public, "rsa"), (read_public, "rsa.pub")):
        with pytest.raises(StoreError, match="ed25519 is wanted"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
@pytest.mark.parametrize("command", ["attest", "verify"])
def test_a_key_that_is_none_is_one_line_and_exit_2(made, tmp_path, data, command, capsys):
    (tmp_path / "key").write_bytes(data)
    for key in (tmp_path / "key", tmp_path / "missing", tmp_path):
        assert main([command, str(made.audit), "--key", str(key)]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"byrote: {key}: ")
        assert len(err.splitlines()) == 1


def test_the_statement_names_every_file_the_ledgers_and_the_head_of_the_verdicts(made):
    statement, wrong = opened(envelope.read(made.attestation), read_public(made.public))
    assert wrong is None
    assert (statement["_type"], statement["predicateType"]) == (STATEMENT, PREDICATE)
    names = {each["name"].partition("#")[0] for each in statement["subject"]}
    (plan,) = [name for name in names if name.startswith("plan-")]
    assert names - {plan} == {
        *("audit.toml", "report/report.json", "report/report.html", "report/redacted.json", "report/redacted.html"),
        *("ledger.jsonl", "corpus/ledger.jsonl", "review/key.json", "verdicts.sqlite"),
    }
    assert all(len(each["digest"]["sha256"]) == 64 for each in statement["subject"])
    assert statement["predicate"]["certified"] == 2
    assert statement["predicate"]["calibrated"] is True
    assert statement["predicate"]["seal"]["before_sampling"] is True


def test_the_statement_holds_no_caption_no_path_and_no_digest_of_a_picture(made):
    statement = json.dumps(opened(envelope.read(made.attestation), None)[0])
    told = json.loads(made.report.read_text())
    for found in told["findings"]:
        for private in (found["picture"]["digest"], found["picture"]["caption"], *found["picture"]["where"]):
            assert private not in statement
    assert str(made.root) not in statement


def test_signing_twice_says_the_same(folder):
    first = folder.attestation.read_bytes()
    assert main(["attest", str(folder.audit), "--key", str(folder.root / "key")]) == 0
    assert folder.attestation.read_bytes() == first


def test_an_audit_without_a_report_is_not_signed(folder, capsys):
    folder.report.unlink()
    assert main(["attest", str(folder.audit), "--key", str(folder.root / "key")]) == Incomplete.exit_code
    assert "no report yet" in capsys.readouterr().err


def test_a_report_of_another_plan_or_model_is_not_signed(folder, capsys):
    folder.studio.write_plan(generate={"seeds": sealed.SEEDS}, certify={"closest": 0.14})
    assert main(["attest", str(folder.audit), "--key", str(folder.root / "key")]) == Incomplete.exit_code
    assert "of another plan, corpus or model" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"findings": 3}', "[" * 100_000])
def test_a_damaged_report_is_not_signed_nor_exported(folder, text, capsys):
    folder.report.write_text(text)
    for command in (["attest", "--key", str(folder.root / "key")], ["export", "--format", "bom"]):
        assert main([command[0], str(folder.audit), *command[1:]]) == 2
        err = capsys.readouterr().err
        assert "damaged" in err
        assert len(err.splitlines()) == 1
