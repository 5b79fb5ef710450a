"""Does the benchmark of the cache check measure a cache that is complete?"""

from benchmarks.check_cache import make, measure


def test_every_recording_that_it_makes_is_found_in_the_cache(tmp_path):
    make(tmp_path, 20)
    bound, taken = measure(tmp_path)  # it asserts that nothing is prepared again
    assert 0 < bound < taken
