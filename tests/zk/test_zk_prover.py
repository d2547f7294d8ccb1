"""Proofs made in a child process, and proof files checked by py_ecc."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
from zk_cases import Cases, with_outputs

from openmg.zk import groth16
from openmg.zk.backend import BackendError, get_backend
from openmg.zk.circuits.transfer import publics_of
from openmg.zk.field import R
from openmg.zk.prover import MAX_REQUEST_BYTES, ProofRequest, ProofResult, ProverError, prove_in_child
from openmg.zk.verify_file import ProofFileError, check_proof_file


@pytest.fixture(scope="module")
def fastest():
    return get_backend("auto").name


@pytest.fixture
def request_of(transfer_key, key_cache, fastest):
    return lambda witness: ProofRequest("transfer", witness, fastest, key_cache, demo=True)


async def test_a_child_proves_what_verifies_here(transfer_key, request_of, fastest):
    witness = Cases(seed=3).unshield()
    result = await prove_in_child(request_of(witness))
    assert list(result.publics) == publics_of(witness).as_list()
    assert groth16.verify(transfer_key.verifying_key, result.publics, result.proof)
    assert result.backend == fastest and result.threads >= 1 and result.rss_mb > 10
    assert result.witness_seconds > 0 and result.prove_seconds > 0 and result.verify_seconds > 0
    assert b"".join(word.to_bytes(32, "big") for word in result.words) == result.proof


async def test_two_proofs_of_one_witness_differ(request_of):
    witness = Cases(seed=3).transfer()
    first, second = await asyncio.gather(*(prove_in_child(request_of(witness)) for _ in range(2)))
    assert first.publics == second.publics and first.proof != second.proof


async def test_a_false_statement_is_named(request_of):
    cases = Cases()
    witness = with_outputs(cases.transfer(), cases.out(cases.total), cases.out(1))
    with pytest.raises(ProverError, match="what comes in goes out") as caught:
        await prove_in_child(request_of(witness))
    assert str(cases.sk) not in str(caught.value) and hex(cases.sk) not in str(caught.value)


async def test_a_missing_backend_is_said(request_of):
    try:
        get_backend("native")
    except BackendError:
        with pytest.raises(ProverError, match="native prover is not installed"):
            await prove_in_child(request_of(Cases().transfer()), "native")
    else:
        result = await prove_in_child(request_of(Cases().transfer()), "native")
        assert result.backend == "native"


async def test_a_development_key_is_refused_outside_demo_mode(request_of):
    with pytest.raises(ProverError, match="there is no proving key: name a ceremony's key file"):
        await prove_in_child(replace(request_of(Cases().transfer()), demo=False))


async def test_a_key_file_must_be_the_one_written_down_and_of_a_ceremony(transfer_key, request_of):
    request = replace(request_of(Cases().transfer()), demo=False, key_file=transfer_key.path, key_sha256="ab" * 32)
    with pytest.raises(ProverError, match="not the written-down one"):
        await prove_in_child(request)
    with pytest.raises(ProverError, match="is the development key of transfer"):
        await prove_in_child(replace(request, key_sha256=transfer_key.sha256.hex()))


async def test_time_is_bounded(request_of):
    with pytest.raises(ProverError, match="no proof after 0 s"):
        await prove_in_child(request_of(Cases().transfer()), timeout_seconds=0.05)


def provers():
    """The proving processes that this one started."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "openmg.zk.prove" in child.cmdline():
                found.append(child)
    return found


async def proving(request):
    """A proof under way, and the process that makes it."""
    task = asyncio.create_task(prove_in_child(request, "portable"))
    while not provers():
        await asyncio.sleep(0.01)
        assert not task.done()
    return task, provers()[0]


async def test_cancelling_ends_the_child(request_of):
    task, child = await proving(request_of(Cases().transfer()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not child.is_running() and not provers()


def _computes(child: psutil.Process) -> bool:
    """Whether it has used a second; libraries start children, too, that end at once."""
    try:
        return bool(child.cpu_times().user >= 1.0)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_prover_does_not_outlive_a_killed_agent(request_of, tmp_path):
    """A proof in Python takes seconds; nobody would ever read it."""
    request = tmp_path / "request.json"
    request.write_text(replace(request_of(Cases().transfer()), backend="portable").to_json(), encoding="utf-8")
    script = (
        "import asyncio, sys; from pathlib import Path; from openmg.zk.prover import ProofRequest, prove_in_child\n"
        f"asyncio.run(prove_in_child(ProofRequest.from_json(Path({str(request)!r}).read_text())))"
    )
    deadline = time.monotonic() + 60
    found: list[psutil.Process] = []
    with subprocess.Popen([sys.executable, "-c", script]) as agent:
        try:
            while not any(_computes(child) for child in found):  # the request is read, the proof is being made
                assert agent.poll() is None and time.monotonic() < deadline
                found = psutil.Process(agent.pid).children()
                time.sleep(0.02)
        finally:
            agent.kill()
    _, alive = psutil.wait_procs(found, timeout=1.0)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


async def test_a_killed_child_is_an_error_like_any_other(request_of):
    task, child = await proving(request_of(Cases().transfer()))
    child.kill()
    with pytest.raises(ProverError, match="ended with code -9: no message"):
        await task


async def test_a_child_that_cannot_be_started_is_said(request_of, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(ProverError, match="cannot be started"):
        await prove_in_child(request_of(Cases().transfer()))


def run_child(text):
    return subprocess.run([sys.executable, "-m", "openmg.zk.prove"], input=text, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "Expecting value"),
        (b"[]", "not of the expected shape"),
        (b'{"circuit": "teleport"}', "no circuit 'teleport'"),
        (b'{"circuit": "transfer", "inputs": {}}', "not of the expected shape"),
        (b"\xff", "decode"),
        (b" " * (MAX_REQUEST_BYTES + 1), "longer than"),
    ],
)
def test_bad_requests_are_one_sentence_and_exit_code_1(text, why):
    result = run_child(text)
    assert result.returncode == 1 and not result.stderr
    assert why in json.loads(result.stdout)["error"]


def test_requests_survive_json(key_cache):
    request = ProofRequest(
        "transfer", Cases().unshield(), "portable", key_cache,
        threads=2, key_file=key_cache / "transfer.pk", key_sha256="ab" * 32, demo=True,
    )  # fmt: skip
    assert ProofRequest.from_json(request.to_json()) == request
    assert len(request.to_json()) < MAX_REQUEST_BYTES / 8


@pytest.mark.parametrize("change", [{"asset": "-0x1"}, {"asset": True}, {"asset": 1.5}, {"ext": hex(R)}, {"inputs": []}])
def test_requests_with_bad_numbers_are_refused(change):
    document = json.loads(ProofRequest("transfer", Cases().transfer()).to_json())
    document["witness"] |= change
    with pytest.raises(ValueError):
        ProofRequest.from_json(json.dumps(document))
    with pytest.raises(ValueError, match="use one of native"):
        replace(ProofRequest("transfer", Cases().transfer()), backend="quick")


@pytest.mark.parametrize("answer", ["", "[]", '{"error": "no"}', '{"proof": "00"}'])
def test_bad_answers_are_prover_errors(answer):
    with pytest.raises(ProverError):
        ProofResult.from_json(answer)


# Files


@pytest.fixture
def proof_file(tmp_path, proved):
    path = tmp_path / "proof.json"
    document = {
        "circuit": "transfer",
        "proof": "0x" + proved.proof.hex(),
        "publics": [hex(value) for value in proved.publics],
    }

    def write(**changes):
        path.write_text(json.dumps({k: v for k, v in (document | changes).items() if v is not None}))
        return path

    return write


@pytest.mark.slow
def test_proof_files_are_checked_with_py_ecc(proof_file, proved, key_cache, transfer_key):
    report = check_proof_file(proof_file(), key_cache)
    assert report.valid and report.development and report.circuit == "transfer"
    assert report.key_hash == transfer_key.verifying_key.digest()
    decimal = [str(value) for value in proved.publics]
    assert check_proof_file(proof_file(publics=decimal, vk=transfer_key.verifying_key.to_bytes().hex()), key_cache).valid


def test_a_wrong_proof_in_a_file_is_not_valid(proof_file, proved, key_cache):
    for changes in ({"publics": [1, *proved.publics[1:]]}, {"publics": []}, {"proof": "00" * 256}):
        assert not check_proof_file(proof_file(**changes), key_cache).valid


def test_a_key_that_comes_in_the_file_is_not_taken_for_ours(proof_file, key_cache, transfer_key):
    ours = transfer_key.verifying_key
    foreign = replace(ours, gamma2=ours.delta2, delta2=ours.gamma2)
    report = check_proof_file(proof_file(vk=foreign.to_bytes().hex()), key_cache)
    assert (report.valid, report.development, report.key_hash) == (False, False, foreign.digest())


def test_a_file_is_not_checked_without_keys(proof_file, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder of keys should be")
    with pytest.raises(ProofFileError, match="cannot be checked: .* set OPENMG_CACHE"):
        check_proof_file(proof_file(), blocked)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"proof": None}, "needs the keys"),
        ({"proof": 5}, "not a hex string"),
        ({"proof": "zz"}, "non-hexadecimal"),
        ({"publics": ["x"]}, "invalid literal"),
        ({"publics": [-1]}, "not a non-negative integer"),
        ({"publics": 7}, "not a proof file"),
        ({"circuit": "teleport"}, "no circuit 'teleport'"),
        ({"vk": "00" * 1088}, "infinity"),
    ],
)
def test_files_that_are_no_proof_files(proof_file, key_cache, changes, why):
    with pytest.raises(ProofFileError, match=why):
        check_proof_file(proof_file(**changes), key_cache)


def test_missing_and_long_files(tmp_path, key_cache):
    with pytest.raises(ProofFileError, match="cannot be read"):
        check_proof_file(tmp_path / "none.json", key_cache)
    path = tmp_path / "long.json"
    path.write_bytes(b" " * (256 * 1024 + 1))
    with pytest.raises(ProofFileError, match="longer than"):
        check_proof_file(path, key_cache)
