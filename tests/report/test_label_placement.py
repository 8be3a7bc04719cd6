"""Labels never overlap, stay inside the plot, and prefer outliers."""

from itertools import combinations

import numpy as np

from harmonizer.report.label_placement import outstanding, place_labels

BOUNDS = (0.0, 0.0, 400.0, 300.0)


def boxes(labels, sizes, candidates):
    size = dict(zip(candidates, sizes, strict=True))
    return [(label.x, label.y, label.x + size[label.index][0], label.y + size[label.index][1]) for label in labels]


def test_crowded_labels_do_not_overlap_and_stay_inside():
    rng = np.random.default_rng(0)
    points = rng.uniform((0, 0), (400, 300), (120, 2))
    candidates = list(range(60))
    sizes = [(float(rng.uniform(20, 90)), 7.0) for _ in candidates]
    labels = place_labels(points, candidates, sizes, BOUNDS, must=10)
    assert len(labels) > 15
    placed = boxes(labels, sizes, candidates)
    for a, b in combinations(placed, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert all(box[0] >= 0 and box[1] >= 0 and box[2] <= 400 and box[3] <= 300 for box in placed)
    for label, box in zip(labels, placed, strict=True):
        if label.index >= 10:  # optional labels cover no point
            inside = ((points > box[:2]) & (points < box[2:])).all(1)
            assert not inside.any()


def test_a_single_label_is_upper_right_unless_an_arrow_is_there():
    point, size = np.array([[200.0, 150.0]]), [(40.0, 7.0)]
    (label,) = place_labels(point, [0], size, BOUNDS)
    assert label.x > 200 and label.y + 3.5 > 150 and not label.leader
    arrow = np.array([[200.0, 150.0], [260.0, 160.0]])
    (moved,) = place_labels(point, [0], size, BOUNDS, lines=[arrow])
    assert (moved.x, moved.y) != (label.x, label.y)


def test_outliers_are_labelled_first():
    points = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [50, 50]], float)
    assert outstanding(points)[0] == 4
    assert outstanding(np.empty((0, 2))) == []
