"""An evaluation's unfinished work, next to its results folder."""

import numpy as np

from harmonizer.results import Row, Work
from harmonizer.statistics import Status


def row(key, **more):
    return Row(key=key, label=0, prediction=0, status=Status.WRONG, **more)


def test_work_resumes_only_for_the_same_request(tmp_path):
    def open_work(**request):
        work = Work(tmp_path / "model", request)
        work.start()
        return work

    work = open_work(attack="ddn")
    example = {"image": np.ones((3, 2, 2), np.float32)}
    work.keep([row("a", l2=0.1)], {"a": example}, {"eps_max": 10.0, "health": {"x": np.nan}})
    work.keep([row("a"), row("b")], {"a": example}, {"eps_max": 10.0})
    work.close()
    again = open_work(attack="ddn")
    assert list(again.rows) == ["a", "b"]
    assert again.rows["a"].l2 == 0.1
    assert again.rows["a"].status is Status.WRONG
    assert list(again.examples) == ["a"]
    assert again.state == {"eps_max": 10.0}
    again.close()
    other = open_work(attack="pgd")
    assert (other.rows, other.examples, other.state) == ({}, {}, {})
    other.remove()
    assert not list(tmp_path.iterdir())


def test_an_example_without_its_row_is_discarded(tmp_path):
    work = Work(tmp_path / "model", {})
    work.start()
    work.keep([], {"a": {"image": np.ones(3)}}, {})  # killed before the rows were written
    work.close()
    again = Work(tmp_path / "model", {})
    again.start()
    assert again.examples == {}
    again.keep([row("b")], {"b": {"image": np.zeros(3)}}, {})
    again.close()
    last = Work(tmp_path / "model", {})
    last.start()
    assert list(last.examples) == ["b"]
    last.close()
