"""Is a package that is not installed reported in one line?"""

import pytest

from utils.errors import UserError
from utils.packages import is_installed, require_package


def test_a_missing_package_is_named_with_the_command_and_the_alternative():
    assert is_installed("json")
    require_package("json", "")
    with pytest.raises(UserError, match=r"^no_such_one is not installed; .* pip install no_such_one \(or walk\)$"):
        require_package("no_such_one", "or walk")
