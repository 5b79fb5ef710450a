"""Does each type of option accept the numbers that it should, and report others?"""

from argparse import ArgumentTypeError

import pytest

from utils.arguments import at_least, positive, share, threshold, threshold_or_auto


@pytest.mark.parametrize(
    ("kind", "accepted", "refused"),
    [
        (at_least(2), {"2": 2, "10": 10}, {"1": "of at least 2", "1.5": "not a whole number", "-3": "not a whole"}),
        (positive, {"0.5": 0.5}, {"0": "is not above 0", "inf": "not above 0", "nan": "not above 0", "x": "a number"}),
        (share, {"0.9": 0.9}, {"0": "not between 0 and 1", "1": "not between 0 and 1", "x": "x is not a number"}),
        (threshold, {"0": 0.0, "1": 1.0}, {"1.1": "not between 0 and 1", "nan": "not between 0 and 1"}),
        (threshold_or_auto, {"auto": "auto", "0.25": 0.25}, {"most": "most is not a number"}),
    ],
)
def test_numbers_in_range_are_accepted_and_others_reported(kind, accepted, refused):
    assert {text: kind(text) for text in accepted} == accepted
    for text, message in refused.items():
        with pytest.raises(ArgumentTypeError, match=message):
            kind(text)
