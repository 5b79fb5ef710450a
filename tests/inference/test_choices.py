"""Does each name that an option accepts have its function, and the other way round?"""

from inference import backends, choices, combine, exported


def test_each_name_has_its_function():
    assert tuple(backends.BACKENDS) == choices.BACKENDS
    assert tuple(combine.COMBINATIONS) == choices.COMBINATIONS
    assert tuple(exported.WRITERS) == tuple(exported.SUFFIXES) == choices.EXPORT_FORMATS
