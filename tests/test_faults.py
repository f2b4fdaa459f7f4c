"""A few of each kind of the faults that `make test-faults` tries, and whether their harness sees what it shall see."""

from __future__ import annotations

import importlib
import random
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("the faults need Linux: its limits, forks and file systems", allow_module_level=True)

from tests.faults import jobs, specimens
from tests.faults.command import Ended, Patience
from tests.faults.folders import tree
from tests.faults.kinds import KINDS, LONG, module
from tests.faults.mutate import damaged, dumps, mutated
from tests.faults.pool import BrokenHarnessError, tried
from tests.faults.report import counted, failures, table


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_of_each_kind(kind):
    seeds = range(KINDS[kind].short)
    counts = counted(kind, tried(module(kind), seeds, workers=1, patience=LONG, rounds=KINDS[kind].rounds))
    if counts.failed:
        pytest.fail("\n".join(failures({kind: counts})), pytrace=False)
    assert counts.verdicts.total() == len(seeds)


def test_a_whole_run_is_ten_thousand():
    assert sum(kind.whole for kind in KINDS.values()) >= 10_000
    for name in KINDS:
        assert importlib.import_module(module(name)).prepare


def test_outcomes_are_seen():
    found = {one.seed: one for one in tried(specimens.__name__, range(specimens.HANGS), workers=2, patience=LONG)}
    assert [found[seed].outcome.verdict for seed in sorted(found)] == [verdict for verdict, _ in specimens.KNOWN]
    counts = counted("specimens", found.values())
    assert {verdict for verdict, _ in counts.failed} == {"untyped", "crash", "wrong"}
    assert "| all | 6 | 1 | 1 | 1 | 1 | 1 | 0 | 1 |" in table({"specimens": counts})[-1]


def test_a_hang_is_ended():
    (hung,) = tried(specimens.__name__, [specimens.HANGS], workers=1, patience=0.2)
    assert hung.outcome.verdict == "hang"


def test_a_mistake_of_the_harness_is_no_fault():
    with pytest.raises(BrokenHarnessError, match="a mistake"):
        list(tried(specimens.__name__, [specimens.BROKEN], workers=1, patience=LONG))


def test_faults_are_the_same_again():
    def made(seed):
        rng = random.Random(seed)
        return dumps(mutated(rng, {"a": [1, {"b": None}]}, ["c"])[0]), damaged(rng, b"0123456789")

    assert [made(seed) for seed in range(50)] == [made(seed) for seed in range(50)]
    assert len({str(made(seed)) for seed in range(50)}) > 25


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """The verdict on a command that replaces a FLAC, after something was done to its folder."""
    monkeypatch.setattr(jobs, "reference", lambda name: ({"a.flac": b"new"}, 1.0))
    monkeypatch.setattr(Patience, "seconds", LONG)

    def judged(code, change):
        work = jobs.set_up(jobs.JOBS["replace"], tmp_path)
        before = tree(work)
        change(work)
        return jobs.judged("replace", tmp_path, before, Ended(code, "", "error: it failed"))

    return judged


@pytest.mark.parametrize(
    ("code", "change", "verdict"),
    [
        (0, lambda work: (work / "a.flac").write_bytes(b"new"), "same"),
        (1, lambda work: None, "refused"),
        (-9, lambda work: (work / "a.flac").write_bytes(b"new"), "allowed"),
        (0, lambda work: None, "an old .flac, exit code 0"),
        (1, lambda work: (work / "a.flac").write_bytes(b"ne"), "a .flac that is not whole"),
        (1, lambda work: (work / "a.flac").unlink(), "a .flac that was there is lost"),
        (-9, lambda work: (work / "mine.wav").unlink(), "mine.wav is gone"),
        (-9, lambda work: (work / "rec.wav").write_bytes(b""), "rec.wav is changed"),
        (0, lambda work: (work / "b.flac").write_bytes(b"new"), "a new file b.flac"),
        (1, lambda work: (work / ".a.flac.partial").write_bytes(b"n"), "an unfinished file stays though"),
    ],
)
def test_files_that_must_not_be(judge, code, change, verdict):
    outcome = judge(code, change)
    assert outcome.found.startswith(verdict) if outcome.verdict == "wrong" else outcome.verdict == verdict
