"""`scripts/mutate.py` on a small checkout of its own: a guard with a test is killed, one without survives."""

import importlib.util
import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # each case starts pytest several times

GUARD = 'if amount <= 0:\n        raise ValueError("nothing to pay")\n    '
MODULE = f"def pay(amount):\n    {GUARD}return amount\n"
TEST = """import pytest
from till import pay

def test_a_payment_of_nothing_is_refused():
    with pytest.raises(ValueError):
        pay(0)

def test_a_payment_is_made():
    assert pay(3) == 3
"""


@pytest.fixture
def mutate(repo_root, tmp_path, monkeypatch):
    """The script as a module whose checkout is a small repository, and a function that writes its table."""
    spec = importlib.util.spec_from_file_location("mutate_under_test", repo_root / "scripts" / "mutate.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)
    spec.loader.exec_module(script)
    (tmp_path / "tests" / "mutations").mkdir(parents=True)
    (tmp_path / "till.py").write_text(MODULE)
    (tmp_path / "tests" / "test_till.py").write_text(TEST)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(script, "ROOT", tmp_path)

    def table(*entries):
        keys = ("name", "file", "old", "new", "tests")
        text = "".join(
            "[[mutation]]\n" + "".join(f"{key} = {json.dumps(entry[key])}\n" for key in keys if key in entry)
            for entry in entries
        )
        (tmp_path / "tests" / "mutations" / "till.toml").write_text(text)

    script.table = table
    return script


def entry(**changed):
    tests = ["tests/test_till.py::test_a_payment_of_nothing_is_refused"]
    return {"name": "amounts", "file": "till.py", "old": "amount <= 0", "new": "False", "tests": tests} | changed


def test_a_guard_with_a_test_is_killed(mutate, capsys):
    mutate.table(entry())
    assert mutate.main([]) == 0
    assert "1 of 1 guards are held" in capsys.readouterr().out
    assert "amount <= 0" in (mutate.ROOT / "till.py").read_text()  # the checkout itself is never changed


def test_a_guard_whose_test_stays_green_survives(mutate, capsys):
    mutate.table(entry(tests=["tests/test_till.py::test_a_payment_is_made"]))
    assert mutate.main(["--json"]) == 1
    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["result"] == "survived"


def test_a_mutant_that_does_not_run_is_no_success(mutate, capsys):
    mutate.table(entry(new="amount <= 0 or ("))
    assert mutate.main(["--json"]) == 1
    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["result"] == "broken"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"old": "no such text"}, "stands 0 times"),
        ({"old": "amount"}, "times in till.py; renew the entry"),
        ({"tests": ["tests/test_till.py::test_that_is_not_there"]}, "do not pass with every guard in place"),
    ],
)
def test_a_table_that_no_longer_fits_is_an_error(mutate, capsys, changed, sentence):
    mutate.table(entry(**changed))
    assert mutate.main([]) == 1
    assert sentence in capsys.readouterr().err


def test_a_drawn_slice_is_the_same_every_time(mutate):
    many = [mutate.Mutation(f"guard {k}", "till.py", "a", "b", ()) for k in range(20)]
    first = mutate.chosen(many, "", 4, 7)
    assert len(first) == 4 and first == mutate.chosen(many, "", 4, 7) != mutate.chosen(many, "", 4, 8)
    with pytest.raises(mutate.MutationError, match="no guard"):
        mutate.chosen(many, "nothing like it", 0, 1)
